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


@dataclasses.dataclass
class Scripted:
    """Trials whose launchers end with the codes of a script, whatever they do."""

    codes: dict[int, list[int]]  # Of each trial, one a start.
    outlives: bool = True
    diverged: tuple[int, ...] = ()  # Trials whose metric is no number.
    begun: list[int] = dataclasses.field(default_factory=list)
    running: int = 0
    most: int = 0

    def begin(self, trial: Trial, epochs: int | None) -> list[str]:  # noqa: ARG002
        self.begun.append(trial.number)
        self.running += 1
        self.most = max(self.most, self.running)
        return [f"exits-{self.codes[trial.number].pop(0)}"]

    def cores(self, place: int) -> Sequence[int]:  # noqa: ARG002
        return ()

    def read(self, trial: Trial, line: TrialLine) -> bool:
        trial.reason = line.text
        return False

    def end(self, trial: Trial, code: int) -> list[str]:
        self.running -= 1
        if code == 0:
            trial.metrics = {"val_accuracy": trial.number / 10}
            if trial.number in self.diverged:
                trial.metrics, trial.diverged = {"accuracy": 0.1}, ("val_accuracy",)
        return []


def ended(
    codes: dict[int, list[int]],
    folder: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    diverged: tuple[int, ...] = (),
    metric: str = "",
    **states: Trial,
) -> tuple[LaunchCode, list[str], Scripted]:
    """How a sweep ends, the states of its trials, and how they were started."""
    trials = [states.get(f"trial{number}", Trial(number, {"seed": str(number)})) for number in codes]
    sweep = Sweep("s", {"seed": tuple(str(number) for number in codes)}, 0, False, (), trials, metric)
    kind, book = Scripted(codes, diverged=diverged), FileBook(folder, "s")
    program = folder / "launcher"
    program.write_text("#!/bin/sh\necho says ${3#exits-} >&2\nexit ${3#exits-}\n")
    program.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(program))
    book.open()
    try:
        code = Engine(sweep, book, kind, PlainView(), parallel=2, rungs=[]).run()
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
    code, states, _ = ended({1: [0], 2: [0], 3: [0]}, tmp_path, monkeypatch, diverged=(1,), metric="val_accuracy")
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
