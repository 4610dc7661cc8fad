"""What a person sees."""

import dataclasses
import io
import json
import re

import pytest
import rich.console

from tests.support.run_objects import failed, pod, running, seen
from trainer.core.log_lines import Progress, StateLine
from trainer.launch.checks.check_result import CheckResult, Mark
from trainer.launch.cluster.objects import Seen
from trainer.launch.codes import LaunchCode
from trainer.launch.report.snapshot import Snapshot, bar, name_workers
from trainer.launch.report.verdict import Verdict
from trainer.launch.report.view import JsonView, LiveView, PlainView, open_view
from trainer.launch.report.worker_activity import WorkerActivity

PROGRESS = Progress(
    worker=0, workers=2, attempt=2, epoch=3, epochs=5, step=120, steps=240,
        metrics={"loss": 0.4123, "accuracy": 0.8812}, examples_per_second=23456.0,
)  # fmt: skip


def snapshot(
    seen_: Seen, attempt: int = 1, *, activity: WorkerActivity | None = None, step_seconds: float | None = None
) -> Snapshot:
    return Snapshot.of(seen_, attempt, PROGRESS, activity or WorkerActivity(), step_seconds)


ONE_WAITS = snapshot(seen(running(0), pod(1, node="", unschedulable="0/2 nodes are available")), 2)


def screen(shown: Snapshot, *, width: int, height: int = 25) -> list[str]:
    console = rich.console.Console(file=io.StringIO(), width=width, height=height, force_terminal=True)
    view = LiveView(console, prefixed=False)
    view.show(shown)
    with console.capture() as captured:
        console.print(view.screen())
    return [re.sub(r"\x1b\[[\d;]*m", "", line).rstrip() for line in captured.get().splitlines()]


def test_a_line_a_worker_and_the_bar() -> None:
    lines = screen(ONE_WAITS, width=100)
    assert lines[0].split() == ["worker", "phase", "node", "step", "restarts", "reason"]
    assert lines[1].split() == ["0", "running", "node1"]  # Its log has said nothing yet.
    assert lines[2].split() == ["1", "pending", "0", "unschedulable"]
    assert lines[3] == "worker 1: no node can take it: 0/2 nodes are available"
    assert lines[4].startswith("epoch 3/5 ━━━━━━━━━━━━━━━━━━━━╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌ 50%")
    assert lines[5] == "step 120/240  loss 0.4123  accuracy 0.8812  23,456 examples/s  attempt 2"


def test_what_each_worker_does_stands_in_its_line() -> None:
    activity = WorkerActivity()
    first, second = failed(1, 143, 50.0), running(1, number=1)
    state = StateLine(
        worker=0, workers=2, attempt=3, state="training", restarts=2, pid=1, spare="none", last="peer_lost"
    )
    activity.read(running(0), state, None)
    activity.read(running(0), None, dataclasses.replace(PROGRESS, step=130))
    activity.read(first, dataclasses.replace(state, worker=1, restarts=1, last="new"), PROGRESS)
    activity.read(second, dataclasses.replace(state, worker=1, state="meeting", restarts=0, last="new"), None)
    shown = snapshot(seen(running(0), first, second), 3, activity=activity)
    lines = screen(shown, width=100)
    assert lines[1].split() == ["0", "training", "node1", "130", "2", "after", "peer", "lost"]
    assert lines[2].split() == ["1", "meeting", "node2", "120", "2"]  # Once in its first pod, and once by another pod.
    assert shown.counts() == {"running": 2}


def test_ends_stand_in_the_line() -> None:
    gone = running(1, gone=True)
    done = running(2, phase="Succeeded", exit_code=0)
    lines = screen(snapshot(seen(failed(0, 64, 5.0), gone, done, running(3, deleting=True), workers=5)), width=100)
    assert [line.split()[1] for line in lines[1:6]] == ["failed", "lost", "done", "leaving", "no"]
    assert lines[1].endswith("exit 64")


def test_forty_columns_are_enough() -> None:
    lines = screen(ONE_WAITS, width=40)
    assert max(map(len, lines)) <= 40
    assert len(lines) == 6


def test_hundreds_of_workers_stay_one_screen() -> None:
    odd = pod(7, node="", unschedulable="no room")
    many = seen(*(running(i) for i in range(500) if i != 7), odd, workers=500)
    lines = screen(snapshot(many), width=80, height=24)
    assert lines[0] == "500 workers: 499 running, 1 unschedulable"
    assert lines[2].split() == ["7", "pending", "0", "unschedulable"]
    assert len(lines) < 24
    assert screen(snapshot(many), width=80, height=900)[0] == lines[0]
    all_odd = seen(*(pod(i, unschedulable=f"no room {i % 2}") for i in range(500)), workers=500)
    assert len(screen(snapshot(all_odd, 0), width=80, height=24)) < 24


def test_hundreds_of_workers_that_each_wait_for_a_reason_of_their_own_stay_one_screen() -> None:
    waiting = (pod(i, waiting=("CreateContainerConfigError", f"no secret {i}")) for i in range(400))
    lines = screen(snapshot(seen(*waiting, *(running(i) for i in range(400, 500)), workers=500)), width=80, height=24)
    assert lines[0] == "500 workers: 400 CreateContainerConfigError, 100 running"
    assert lines[-5:-2] == [
        "worker 2: CreateContainerConfigError: no secret 2",
        "worker 3: CreateContainerConfigError: no secret 3",
        "and 396 more reasons, of 396 worker(s)",
    ]
    assert lines[-2].startswith("epoch 3/5 ")
    assert len(lines) < 24


@pytest.mark.parametrize(
    ("step_seconds", "words"), [(None, "50%"), (0.5, "50% ETA 1:00"), (60.0, "50% ETA 2:00:00"), (0.01, "50% ETA 0:01")]
)
def test_the_time_that_is_left(step_seconds: float | None, words: str) -> None:
    (epoch,) = [
        line for line in screen(snapshot(seen(running(0)), step_seconds=step_seconds), width=100) if "epoch" in line
    ]
    assert epoch.endswith(words)


def terminal(**environ: str) -> rich.console.Console:
    return rich.console.Console(
        file=io.StringIO(), width=80, force_terminal=True, _environ={"TERM": "xterm-256color", **environ}
    )


def printed(console: rich.console.Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_each_workers_prefix_has_its_colour() -> None:
    console = terminal()
    view = LiveView(console, prefixed=True)
    view.log(0, "hello [bold]")
    view.log(1, "hello")
    first, second = printed(console).splitlines()
    assert first == "\x1b[36mworker 0 | \x1b[0mhello [bold]"
    assert second == "\x1b[32mworker 1 | \x1b[0mhello"


def test_no_color_means_none() -> None:
    console = terminal(NO_COLOR="1")
    LiveView(console, prefixed=True).log(0, "hello")
    assert printed(console) == "worker 0 | hello\n"


@pytest.mark.parametrize(
    ("environ", "prefix"), [({}, "\x1b[36mworker 0 | \x1b[0m"), ({"NO_COLOR": "1"}, "worker 0 | ")]
)
def test_logs_on_a_terminal_have_the_coloured_prefix_too(
    environ: dict[str, str], prefix: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in {"TERM": "xterm-256color", **environ}.items():
        monkeypatch.setenv(name, value)
    with open_view(json_lines=False, prefixed=True, live=False) as view:
        view.log(0, "a line that is longer than any terminal is wide " * 5)
    assert capsys.readouterr().out == prefix + "a line that is longer than any terminal is wide " * 5 + "\n"


def test_plain_lines_are_only_news(capsys: pytest.CaptureFixture[str]) -> None:
    view = PlainView(prefixed=True)
    view.show(ONE_WAITS)
    view.show(ONE_WAITS)
    view.log(1, "hello [bold]")
    view.show(snapshot(seen(running(0), running(1)), 2))
    assert capsys.readouterr().out.splitlines() == [
        "workers: 1 running, 1 unschedulable",
        "  worker 1: no node can take it: 0/2 nodes are available",
        "worker 1 | hello [bold]",
        "workers: 2 running",
    ]


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    view = JsonView()
    view.show(ONE_WAITS)
    view.show(ONE_WAITS)
    view.log(0, PROGRESS.format())
    view.log(0, "hello")
    view.end(Verdict(code=LaunchCode.TRAINING, headline="failed", lines=("why",), facts={"first_cause": {"worker": 1}}))
    state, progress, log, verdict = map(json.loads, capsys.readouterr().out.splitlines())
    assert state["workers"] == {"running": 1, "unschedulable": 1}
    assert state["pending"][0]["workers"] == [1]
    assert (progress["event"], progress["step"], progress["loss"]) == ("progress", 120, 0.4123)
    assert log["text"] == "hello"
    assert (verdict["exit_code"], verdict["first_cause"], verdict["lines"]) == (125, {"worker": 1}, ["why"])
    assert verdict["goes_on"] is False
    view.end(Verdict(code=LaunchCode.TIMEOUT, headline="timed out", goes_on=True))
    assert json.loads(capsys.readouterr().out)["goes_on"] is True
    check = CheckResult(Mark.FAIL, "quota", "leaves 0", "fewer")
    view.say(str(check), check=vars(check))
    notice = json.loads(capsys.readouterr().out)
    assert (notice["event"], notice["text"]) == ("notice", str(check))
    assert notice["check"] == {"mark": "FAIL", "what": "quota", "text": "leaves 0", "fix": "fewer"}


def test_json_has_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    view = JsonView()
    view.log(
        0,
        dataclasses.replace(
            PROGRESS, metrics={"loss": float("nan")}, validation={"loss": float("inf"), "accuracy": 0.5}
        ).format(),
    )
    view.end(Verdict(code=LaunchCode.DONE, headline="", facts={"result": {"loss": float("nan"), "steps": [1, 2]}}))

    def refused(constant: str) -> None:
        raise AssertionError(constant)

    progress, verdict = (json.loads(line, parse_constant=refused) for line in capsys.readouterr().out.splitlines())
    assert (progress["loss"], progress["val_loss"], progress["val_accuracy"]) == (None, None, 0.5)
    assert verdict["result"] == {"loss": None, "steps": [1, 2]}


def test_worker_lists_and_bars() -> None:
    assert name_workers([3]) == "worker 3"
    assert name_workers([0, 1, 2, 5]) == "workers 0-2, 5"
    assert (bar(0.5, 4), bar(2.0, 2), bar(-1.0, 2)) == ("━━╌╌", "━━", "╌╌")
