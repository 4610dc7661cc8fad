"""The trials of a sweep: every combination of the values that flags may have, or some of them. Pure."""

import itertools
import math
import random
from collections.abc import Mapping, Sequence

from trainer.core import experiment_flags, settings
from trainer.core.config import PROGRAM, Config
from trainer.core.exit_codes import UsageError

MOST_TRIALS = 1000

_SET_BY_SWEEP = {
    "run_dir": "each trial has a folder of its own",
    "resume_from": "a trial begins anew",
    "help": "it is no value",
    "flagfile": "name the flags themselves",
}


def parse(texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The values of each flag in `--grid name=value,value`.

    Raises:
      UsageError: names what is not of that form.
    """
    grid: dict[str, tuple[str, ...]] = {}
    for text in texts:
        name, equals, listed = text.partition("=")
        name, values = name.strip().lstrip("-"), tuple(value.strip() for value in listed.split(","))
        if not equals or not name.isidentifier() or not all(values):
            raise UsageError(f"--grid={text} is not of the form flag=value,value, such as learning_rate=1e-3,3e-4")
        if name in _SET_BY_SWEEP:
            raise UsageError(f"--grid={text}: --{name} cannot vary in a sweep: {_SET_BY_SWEEP[name]}")
        if name in grid:
            raise UsageError(f"--grid={text}: --{name} has its values already; give all of them at once")
        if len({*values}) < len(values):
            raise UsageError(f"--grid={text} has a value twice")
        grid[name] = values
    return grid


def combinations(grid: Mapping[str, Sequence[str]], count: int, name: str) -> list[dict[str, str]]:
    """The flags of each trial.

    Args:
      grid: the values of each flag.
      count: so many combinations, drawn at random without repetition; 0: all.
      name: the sweep's name; the same name draws the same.

    Raises:
      UsageError: there are too many.
    """
    total = math.prod(len(values) for values in grid.values())
    wanted = min(count, total) or total
    if wanted > MOST_TRIALS:
        what = f"--random={count}" if count else f"the grid of {total:,} combinations"
        raise UsageError(f"{what} makes more than {MOST_TRIALS} trials; give fewer values, or draw some with --random")
    if wanted == total:
        return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    draw, drawn = random.Random(name), set[int]()
    while len(drawn) < wanted:
        drawn.add(draw.randrange(total))
    return [_numbered(grid, number) for number in sorted(drawn)]


def _numbered(grid: Mapping[str, Sequence[str]], number: int) -> dict[str, str]:
    """A combination by its number in the order of `itertools.product`."""
    flags = {}
    for name in reversed([*grid]):
        number, at = divmod(number, len(grid[name]))
        flags[name] = grid[name][at]
    return {name: flags[name] for name in grid}


def check(trials: Sequence[Mapping[str, str]], training: Sequence[str], *, halving: bool) -> Config:
    """Refuses what a training process would refuse; returns the configuration that all trials have in common.

    Args:
      trials: the flags of each trial.
      training: the flags that all have.
      halving: the number of epochs is the sweep's to say, and grows from rung to rung.

    Raises:
      UsageError: names the flag, the value given and the values allowed.
    """
    config, unchecked = experiment_flags.parse(training)
    given = settings.given(type(config), training, program=PROGRAM, known_only=True)
    given |= {argument.lstrip("-").partition("=")[0] for argument in unchecked}
    for name in ("run_dir", "resume_from"):
        if name in given:
            raise UsageError(f"--{name} cannot be given to a sweep: {_SET_BY_SWEEP[name]}")
    for name in trials[0]:
        if name in given:
            raise UsageError(f"--{name} is given to all trials after --, and varies in --grid; take one of them out")
        if halving and name == "epochs":
            raise UsageError(
                "--grid=epochs=… cannot go with --halving, which chooses the epochs; give --epochs after --"
            )
    if halving:
        _check_schedule(config)
    for number, flags in enumerate(trials, 1):
        try:
            of_trial, _ = experiment_flags.parse([*training, *arguments(flags)])
            if halving:
                _check_schedule(of_trial)
        except UsageError as error:
            raise UsageError(f"--grid: trial {number} ({' '.join(arguments(flags))}): {error}") from None
    return config


def _check_schedule(config: Config) -> None:
    """Refuses what a training process refuses of a trial that goes on: the run has more steps then."""
    if config.learning_rate_schedule != "constant":
        raise UsageError(
            f"--learning_rate_schedule={config.learning_rate_schedule} cannot go with --halving: it depends on how "
            "many epochs there are, and would be another one in each rung; leave it constant, or --halving out"
        )


def arguments(flags: Mapping[str, str]) -> list[str]:
    """The flags as a command line."""
    return [f"--{name}={value}" for name, value in flags.items()]
