"""What becomes of a sweep whose trials' launchers end in every way.

The launchers are processes, but of a shell script: real ones end with a code of the test's choice too seldom. Those are
in `test_local_sweep.py`, and on a real control plane in `e2e/test_launcher_sweep.py`.
"""

import dataclasses
import pathlib
import signal
from collections.abc import Iterator, Sequence

import pytest

from trainer.core.exit_codes import UsageError
from trainer.launch.codes import LaunchCode
from trainer.launch.runs.trials import DONE, FAILED, RUNNING, WAITING, Sweep, Trial
from trainer.launch.sweep.book import FileBook
from trainer.launch.sweep.engine import Engine
from trainer.launch.sweep.trial_process import TrialLine
from trainer.launch.sweep.view import PlainView


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """The engine takes the signals of its process."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


LAUNCHER = """#!/bin/sh
code=${3#exits-}
[ "$4" != at-ctrl-c ] || trap "exit $code" INT
echo says $code >&2
[ "$4" != at-ctrl-c ] || while :; do sleep 0.1; done
[ $code -ge 0 ] || kill $code $$
exit $code
"""


@dataclasses.dataclass
class Scripted:
    """Trials whose launchers end with the codes of a script, whatever they do."""

    codes: dict[int, list[int]]  # Of each trial, one a start; negative: the signal that ends it.
    outlives: bool = True
    diverged: tuple[int, ...] = ()  # Trials whose metric is no number.
    left: dict[int, int] = dataclasses.field(default_factory=dict)  # How the clearing up after trials ends.
    interrupted: bool = False  # With the first line of a launcher comes Ctrl-C, at which it ends.
    begun: list[int] = dataclasses.field(default_factory=list)
    running: int = 0
    most: int = 0

    def begin(self, trial: Trial, epochs: int | None) -> list[str]:  # noqa: ARG002
        self.begun.append(trial.number)
        self.running += 1
        self.most = max(self.most, self.running)
        return [f"exits-{self.codes[trial.number].pop(0)}", *["at-ctrl-c"] * self.interrupted]

    def cores(self, place: int) -> Sequence[int]:  # noqa: ARG002
        return ()

    def read(self, trial: Trial, line: TrialLine) -> bool:
        trial.reason = line.text
        if self.interrupted:
            signal.raise_signal(signal.SIGINT)
        return False

    def end(self, trial: Trial, code: int) -> list[str]:
        self.running -= 1
        if code == 0:
            trial.metrics = {"val_accuracy": trial.number / 10}
            if trial.number in self.diverged:
                trial.metrics, trial.diverged = {"accuracy": 0.1}, ("val_accuracy",)
        return [f"exits-{self.left[trial.number]}", f"--name=s {trial.number}"] if trial.number in self.left else []


def ended(
    script: dict[int, list[int]] | Scripted,
    folder: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    metric: str = "",
    parallel: int = 2,
    **states: Trial,
) -> tuple[LaunchCode, list[str], Scripted]:
    """How a sweep ends, the states of its trials, and how they were started."""
    kind = script if isinstance(script, Scripted) else Scripted(script)
    codes = kind.codes
    trials = [states.get(f"trial{number}", Trial(number, {"seed": str(number)})) for number in codes]
    sweep = Sweep("s", {"seed": tuple(str(number) for number in codes)}, 0, False, (), trials, metric)
    book = FileBook(folder, "s")
    program = folder / "launcher"
    program.write_text(LAUNCHER)
    program.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(program))
    book.open()
    try:
        code = Engine(sweep, book, kind, PlainView(), parallel=parallel, rungs=[]).run()
        left = Sweep.from_json((folder / "s.sweep.json").read_bytes(), "the list")
    finally:
        book.close()
    assert left == sweep
    return code, [trial.state for trial in sweep.trials], kind


def test_all_but_so_many_wait(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, states, kind = ended({number: [0] for number in range(1, 8)}, tmp_path, monkeypatch)
    assert (code, states) == (LaunchCode.DONE, [DONE] * 7)
    assert kind.most == 2


def test_failures_are_not_fatal(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, states, _ = ended({1: [125], 2: [0], 3: [64]}, tmp_path, monkeypatch)
    assert (code, states) == (LaunchCode.DONE, [FAILED, DONE, FAILED])
    assert "trial 1 failed (125): says 125" in capsys.readouterr().out


def test_one_whose_metric_is_no_number_does_not_end_the_others(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = Scripted({1: [0], 2: [0], 3: [0]}, diverged=(1,))
    code, states, _ = ended(script, tmp_path, monkeypatch, metric="val_accuracy")
    assert (code, states) == (LaunchCode.DONE, [DONE] * 3)
    assert "trial 3 is done: val_accuracy 0.3000 after 0 epoch(s), 0 s (the best so far)" in capsys.readouterr().out


def test_a_metric_that_no_trial_measures_ends_the_sweep(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="--metric=f1 is not measured by trial 1; it has: val_accuracy;"):
        ended({1: [0]}, tmp_path, monkeypatch, metric="f1")


def test_none_that_succeeds(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, states, _ = ended({1: [125], 2: [2]}, tmp_path, monkeypatch)
    assert (code, states) == (LaunchCode.TRAINING, [FAILED, FAILED])


def test_one_that_is_never_admitted_fails_when_nothing_else_runs(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, states, kind = ended({1: [0], 2: [3, 3, 3]}, tmp_path, monkeypatch)
    assert (code, states) == (LaunchCode.DONE, [DONE, FAILED])
    assert kind.begun.count(2) <= 2


def test_one_that_cannot_be_followed_is_left_for_the_next_time(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = Trial(1, {"seed": "1"}, RUNNING, job="s-1-1a2b3c4d")
    code, states, kind = ended({1: [1], 2: [0]}, tmp_path, monkeypatch, trial1=lost)
    assert (code, states) == (LaunchCode.FAILED, [RUNNING, DONE])
    assert kind.begun == [1, 2]
    assert "trial 1 goes on, but cannot be followed: says 1" in capsys.readouterr().out


@pytest.mark.parametrize(("code", "why"), [(1, "says 1"), (124, "says 124"), (-9, "says -9")])
def test_one_that_goes_on_unwatched_keeps_its_place(
    code: int, why: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No more trials than --parallel says have Jobs that go on, whatever has ended the launchers of some."""
    unwatched = Trial(1, {"seed": "1"}, RUNNING, job="s-1-1a2b3c4d")
    ended_with, states, kind = ended({1: [code], 2: [0]}, tmp_path, monkeypatch, parallel=1, trial1=unwatched)
    assert (ended_with, states, kind.begun) == (LaunchCode.FAILED, [RUNNING, WAITING], [1])
    assert f"trial 1 goes on, but cannot be followed: {why}" in capsys.readouterr().out


def test_a_timeout_that_ended_the_job_is_a_failure(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, states, kind = ended({1: [124], 2: [0]}, tmp_path, monkeypatch, parallel=1)
    assert (code, states, kind.begun) == (LaunchCode.DONE, [FAILED, DONE], [1, 2])


def left_behind(said: str) -> list[str]:
    return [line for line in said.splitlines() if "what is left of it" in line]


def test_what_could_not_be_cleared_up_is_said_with_its_command(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = Scripted({1: [0], 2: [0]}, left={1: 0, 2: 7})
    code, states, _ = ended(script, tmp_path, monkeypatch)
    assert (code, states) == (LaunchCode.DONE, [DONE, DONE])
    assert left_behind(capsys.readouterr().out) == [
        "trial 2: what is left of it on the cluster could not be removed (7); "
        "`python -m trainer.launch exits-7 '--name=s 2'` removes it"
    ]


def test_a_trial_that_ends_at_ctrl_c_says_what_it_leaves(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = Scripted({1: [0], 2: [0]}, left={1: 0}, interrupted=True)
    code, states, _ = ended(script, tmp_path, monkeypatch, parallel=1)
    assert (code, states) == (LaunchCode.INTERRUPTED, [DONE, WAITING])
    assert left_behind(capsys.readouterr().out) == [
        "trial 1: what is left of it on the cluster stays, as the sweep was interrupted; "
        "`python -m trainer.launch exits-0 '--name=s 1'` removes it"
    ]


def test_one_whose_job_is_gone_begins_anew(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = Trial(1, {"seed": "1"}, RUNNING)
    code, states, kind = ended({1: [3, 0]}, tmp_path, monkeypatch, trial1=gone)
    assert (code, states, kind.begun) == (LaunchCode.DONE, [DONE], [1, 1])


def test_what_has_ended_is_not_begun_again(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = Trial(1, {"seed": "1"}, DONE, metrics={"val_accuracy": 1.0})
    failed = Trial(2, {"seed": "2"}, FAILED, exit_code=125)
    code, states, kind = ended({1: [], 2: [], 3: [0]}, tmp_path, monkeypatch, trial1=done, trial2=failed)
    assert (code, states, kind.begun) == (LaunchCode.DONE, [DONE, FAILED, DONE], [3])
    assert WAITING not in states
