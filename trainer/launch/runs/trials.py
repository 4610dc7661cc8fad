"""The list of a sweep's trials, as it is kept: one JSON object beside the runs.

{"format": 1, "name": "sweep", "metric": "val_accuracy", "grid": {"learning_rate": ["1e-3", "3e-4"]}, "random": 0,
 "halving": false, "training": ["--epochs=5"], "trials": [{"number": 1, "flags": {"learning_rate": "1e-3"}, …}]}
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, Self

from trainer.core import format_versions, typed_json
from trainer.core.exit_codes import DataError
from trainer.core.result_figures import figure, sound
from trainer.core.run_dir import run_name_parts
from trainer.core.safe_text import one_line, redacted
from trainer.output.stores.store import Folders, Readable

SUFFIX = ".sweep.json"
_MOST_TRIALS = 100_000

WAITING, RUNNING, DONE, FAILED, STOPPED = "waiting", "running", "done", "failed", "stopped"
STATES = (WAITING, RUNNING, DONE, FAILED, STOPPED)


@dataclasses.dataclass
class Trial:
    """One combination of flags, and what has become of it."""

    number: int  # From 1.
    flags: dict[str, str]
    state: str = WAITING  # STOPPED: done with fewer epochs than others, and halving went on without it.
    rung: int = 0  # Of successive halving: how often it was let go on.
    runs: list[str] = dataclasses.field(default_factory=list)  # The names of its runs' folders, one a rung.
    job: str = ""  # On a cluster, the newest Job's name, with which the name of its run begins.
    epochs: int = 0  # Those it has trained.
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)  # After the last of these.
    diverged: tuple[str, ...] = ()  # Metrics that were no numbers after it.
    exit_code: int | None = None
    reason: str = ""  # Why it failed, in a line.
    seconds: float = 0.0

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Reads a trial; raises ValueError where it is none."""
        entry = typed_json.an_object(value, "a trial")
        state, code = typed_json.text(entry, "state"), entry.get("exit_code")
        if state not in STATES:
            raise ValueError(f"state is {one_line(ascii(state), 40)}, expected one of {', '.join(STATES)}")
        return cls(
            number=typed_json.whole(entry, "number", least=1, most=_MOST_TRIALS),
            flags=_texts(entry, "flags"),
            state=state,
            rung=typed_json.whole(entry, "rung", most=64),
            runs=[_folder(run) for run in typed_json.texts(entry, "runs")],
            job=typed_json.text(entry, "job"),
            epochs=typed_json.whole(entry, "epochs"),
            metrics=_numbers(entry, "metrics"),
            diverged=typed_json.texts(entry, "diverged") if "diverged" in entry else (),
            exit_code=None if code is None else typed_json.whole(entry, "exit_code", least=-64, most=255),
            reason=one_line(typed_json.text(entry, "reason")),
            seconds=figure(entry, "seconds"),
        )

    def made(self, run: str) -> bool:
        """Whether a run of that name is this trial's."""
        parts = run_name_parts(run)
        return run in self.runs or bool(self.job and parts and parts[0] == self.job)


@dataclasses.dataclass
class Sweep:
    """A sweep: what is asked for, and its trials."""

    name: str
    grid: dict[str, tuple[str, ...]]
    random: int  # 0: all combinations.
    halving: bool
    training: tuple[str, ...]  # The flags of the training program that all trials have.
    trials: list[Trial]
    metric: str = ""  # "": not chosen yet.

    @classmethod
    def from_json(cls, data: bytes, what: str) -> Self:
        """Reads a list of trials.

        Raises:
          DataError: it is none, or of a newer version.
        """
        try:
            value = typed_json.an_object(typed_json.loads(data), "it")
            format_versions.version(value, format_versions.TRIALS, what=what)
            trials = value.get("trials")
            if not isinstance(trials, list) or len(trials) > _MOST_TRIALS:
                raise ValueError("trials is no list of them")
            grid = typed_json.an_object(value.get("grid"), "grid")
            return cls(
                name=typed_json.text(value, "name"),
                grid={name: typed_json.texts(grid, name) for name in grid},
                random=typed_json.whole(value, "random", most=_MOST_TRIALS),
                halving=value.get("halving") is True,
                training=typed_json.texts(value, "training"),
                trials=[Trial.from_json(trial) for trial in trials],
                metric=typed_json.text(value, "metric"),
            )
        except ValueError as error:
            raise DataError(f"{what} is no list of trials: {one_line(str(error), 200)}") from None

    def to_json(self) -> bytes:
        """What `from_json` reads."""
        return (
            json.dumps({format_versions.KEY: format_versions.TRIALS, **dataclasses.asdict(self)}, indent=1) + "\n"
        ).encode()

    def counts(self) -> dict[str, int]:
        """How many trials are in each state that some are in."""
        counted = {state: sum(trial.state == state for trial in self.trials) for state in STATES}
        return {state: count for state, count in counted.items() if count}


def read(place: Readable, name: str) -> Sweep | None:
    """The list of the sweep of that name; None: there is none. Raises StorageError, and DataError as `from_json`."""
    stored = place.get(f"{name}{SUFFIX}")
    return Sweep.from_json(stored.data, f"{redacted(place.url)}/{name}{SUFFIX}") if stored else None


def flags_of_trials(place: Folders, runs: Sequence[str]) -> dict[str, Mapping[str, str]]:
    """The flags by which the trials of the sweeps in a place differ, by the run's name.

    What is damaged is passed over: whoever lists runs has not asked for sweeps.

    Args:
      place: where runs and lists of trials lie.
      runs: the names of runs in it.

    Raises:
      StorageError: the place failed.
    """
    found: dict[str, Mapping[str, str]] = {}
    jobs = {parts[0]: run for run in runs if (parts := run_name_parts(run))}
    for name in sorted(name for name in place.children()[1] if name.endswith(SUFFIX)):
        try:
            sweep = read(place, name.removesuffix(SUFFIX))
        except DataError:
            continue
        for trial in sweep.trials if sweep else ():
            found |= dict.fromkeys(trial.runs, trial.flags)
            if trial.job in jobs:
                found[jobs[trial.job]] = trial.flags
    return found


def _folder(name: str) -> str:
    """A folder's name: whoever can write the bucket must not choose what is read on this machine."""
    if "/" in name or name in ("", ".", "..") or not name.isprintable():
        raise ValueError(f"a run is called {one_line(ascii(name), 40)}, which is no folder's name")
    return name


def _texts(value: Mapping[str, Any], name: str) -> dict[str, str]:
    entries = typed_json.an_object(value.get(name), name)
    return {key: typed_json.text(entries, key) for key in entries}


def _numbers(value: Mapping[str, Any], name: str) -> dict[str, float]:
    entries = sound(typed_json.an_object(value.get(name), name))
    return {key: float(entry) for key, entry in entries.items() if type(entry) in (int, float)}
