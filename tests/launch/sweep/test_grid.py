"""Which trials a sweep has, and what halving makes of them."""

import math

import pytest

from trainer.core.exit_codes import UsageError
from trainer.launch.runs.trials import DONE, FAILED, RUNNING, STOPPED, WAITING, Trial
from trainer.launch.sweep import grid, halving


def test_all_combinations_or_some() -> None:
    values = grid.parse(["a=1,2", "--b=x,y,z"])
    every = grid.combinations(values, 0, "name")
    assert len(every) == 6
    assert every[:2] == [{"a": "1", "b": "x"}, {"a": "1", "b": "y"}]
    some = grid.combinations(values, 4, "name")
    assert len(some) == 4
    assert all(flags in every for flags in some)
    assert len({tuple(flags.items()) for flags in some}) == 4
    assert grid.combinations(values, 4, "name") == some
    assert any(grid.combinations(values, 4, f"name{number}") != some for number in range(9))
    assert grid.combinations(values, 100, "name") == every
    many = {f"flag{number}": tuple(map(str, range(100))) for number in range(20)}
    assert len(grid.combinations(many, 7, "name")) == 7


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["learning_rate"], "--grid=learning_rate is not of the form flag=value,value"),
        (["learning_rate=1,"], "is not of the form"),
        (["=1"], "is not of the form"),
        (["seed=1,1"], "--grid=seed=1,1 has a value twice"),
        (["seed=1", "seed=2"], "--seed has its values already"),
        (["run_dir=a,b"], "--run_dir cannot vary in a sweep: each trial has a folder of its own"),
    ],
)
def test_what_is_no_grid(texts: list[str], words: str) -> None:
    with pytest.raises(UsageError) as refused:
        grid.parse(texts)
    assert words in str(refused.value)


def test_too_many_trials() -> None:
    values = {"seed": tuple(map(str, range(100))), "epochs": tuple(map(str, range(1, 101)))}
    with pytest.raises(UsageError, match="the grid of 10,000 combinations makes more than 1000 trials"):
        grid.combinations(values, 0, "name")
    with pytest.raises(UsageError, match="--random=2000 makes more than 1000 trials"):
        grid.combinations(values, 2000, "name")


@pytest.mark.parametrize(
    ("flags", "training", "words"),
    [
        ({"lerning_rate": "1"}, [], r"--grid: trial 1 \(--lerning_rate=1\): .*Did you mean: learning_rate"),
        ({"learning_rate": "fast"}, [], r"trial 1 \(--learning_rate=fast\): .*fast"),
        ({"hidden_units": "0"}, [], "--hidden_units=0 must be at least 1"),
        ({"momentum": "0.9"}, [], "--momentum=0.9 needs --optimizer=sgd"),
        ({"seed": "1"}, ["--seed=2"], "--seed is given to all trials after --, and varies in --grid"),
        ({"seed": "1"}, ["--run_dir=x"], "--run_dir cannot be given to a sweep"),
        ({"epochs": "1"}, [], "--grid=epochs=… cannot go with --halving"),
        ({"seed": "1"}, ["--learning_rate_schedule=cosine"], "^--learning_rate_schedule=cosine cannot go with --halvi"),
        (
            {"learning_rate_schedule": "step"},
            [],
            r"^--grid: trial 1 \(--learning_rate_schedule=step\): --learning_rate_schedule=step cannot go with --halvi",
        ),
    ],
)
def test_what_a_training_process_would_refuse(flags: dict[str, str], training: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        grid.check([flags], training, halving=True)


def test_flags_of_the_experiment_that_a_models_run_names_may_vary() -> None:
    assert grid.check([{"width": "3"}], ["--mode=evaluate", "--model=run"], halving=False).model == "run"
    with pytest.raises(UsageError, match="--width is given to all trials after --, and varies in --grid"):
        grid.check([{"width": "3"}], ["--mode=evaluate", "--model=run", "--width=2"], halving=False)


def test_without_halving_a_learning_rate_may_follow_a_schedule() -> None:
    trials = [{"learning_rate_schedule": name} for name in ("constant", "cosine")]
    assert grid.check(trials, ["--warmup_steps=9"], halving=False).epochs == 5
    assert grid.check([{"warmup_steps": "9"}], ["--learning_rate_schedule=constant"], halving=True).epochs == 5


def test_the_rungs_of_halving() -> None:
    assert halving.rungs(8, 8) == [1, 2, 4, 8]
    assert halving.rungs(4, 10) == [3, 5, 10]
    assert halving.rungs(100, 5) == [2, 3, 5]
    assert halving.rungs(1, 5) == [5]
    assert halving.rungs(9, 1) == [1]
    for trials in range(1, 40):
        for epochs in range(1, 40):
            rungs = halving.rungs(trials, epochs)
            assert rungs[-1] == epochs
            assert rungs[0] >= 1
            assert rungs == sorted({*rungs})
            assert 2 ** (len(rungs) - 1) <= trials


def test_the_better_half_goes_on() -> None:
    losses = [0.5, 0.1, math.nan, 0.3, 0.4]
    trials = [Trial(number, {}, DONE, metrics={"val_loss": loss}) for number, loss in enumerate(losses, 1)]
    trials.append(Trial(6, {}, FAILED, metrics={"val_loss": 0.01}))
    trials[0].state = RUNNING
    assert halving.promote(trials, "val_loss", 2) == []
    assert [trial.number for trial in halving.best_first(trials, "val_loss")][:4] == [2, 4, 5, 1]  # 6 has failed.
    trials[0].state = DONE
    assert [trial.number for trial in halving.promote(trials, "val_loss", 2)] == [2, 4, 5]
    assert [trial.state for trial in trials] == [STOPPED, WAITING, STOPPED, WAITING, WAITING, FAILED]
    assert halving.promote(trials, "val_loss", 2) == []
    for trial in trials:
        trial.state = DONE if trial.state == WAITING else trial.state
    assert [trial.number for trial in halving.promote(trials, "val_loss", 2)] == [2]
    trials[1].state = DONE
    assert halving.promote(trials, "val_loss", 2) == []
    assert [trial.state for trial in trials] == [STOPPED, DONE, STOPPED, STOPPED, STOPPED, FAILED]
