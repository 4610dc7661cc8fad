"""Logs, events, statuses, last words and results are others' texts: they command no terminal and end nothing.

Any of them may be written by the code that is trained, by its data, or by whoever reaches the bucket.
"""

import contextlib
import io
import json
import re
from typing import Any

import pytest
import rich.console
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.run_objects import SPENT, failed, pod, running, seen, warned
from trainer.core import attempts, termination_message
from trainer.core.exit_codes import DataError
from trainer.core.log_lines import Progress, StateLine
from trainer.launch.codes import LaunchCode
from trainer.launch.local.view import JsonFleetView, LiveFleetView, PlainFleetView
from trainer.launch.report.finished_run import StoredAttempt, stored_verdict
from trainer.launch.report.snapshot import Snapshot
from trainer.launch.report.time_spent import Timeline
from trainer.launch.report.verdict import Verdict
from trainer.launch.report.view import JsonView, LiveView, PlainView, TableView
from trainer.launch.report.watched_run import End, watched_verdict
from trainer.launch.report.worker_activity import WorkerActivity

# A title, the clipboard, a cleared screen, a line written over, a link, C1, NUL, the other direction, half a character.
COMMANDS = (
    "\x1b]0;owned\x07",
    "\x1b]52;c;aGk\x1b\\",
    "\x1b[2J",
    "\x1b[1A\r",
    "\x1b]8;;x\x1b\\",
    "\x9b2J",
    "\x00",
)
HOSTILE = "boom " + "".join(COMMANDS) + "\u202e\ud800\u2028[/red] :warning: \x1b[31mred"
OBEYED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1a\x7f-\x9f\u202e\ud800\u2028]|\x1b(?!\\[)|\x1b\\[2J")


def assert_harmless(shown: str) -> None:
    assert not OBEYED.search(shown), repr(shown)
    assert "owned" not in shown
    assert "aGk" not in shown
    assert "boom" in shown
    shown.encode()


def hostile_snapshot() -> Snapshot:
    activity = WorkerActivity()
    line = f"progress worker=0/2 attempt=1 epoch=1/2 step=1/2 {HOSTILE.replace(' ', '_')}=1 loss=1 examples/s=1"
    progress = Progress.parse(line)
    assert progress
    waiting = pod(1, node=HOSTILE, waiting=(HOSTILE, HOSTILE))
    return Snapshot.of(seen(running(0, node=HOSTILE), waiting), 1, progress, activity, 1.0)


VERDICT = Verdict(code=LaunchCode.TRAINING, headline=HOSTILE, lines=(HOSTILE, f"| {HOSTILE}"))


@pytest.mark.parametrize("prefixed", [True, False])
def test_plain_lines(prefixed: bool, capsys: pytest.CaptureFixture[str]) -> None:
    view = PlainView(prefixed=prefixed)
    view.say(HOSTILE)
    view.log(0, HOSTILE)
    view.end(VERDICT)
    view.show(hostile_snapshot())
    TableView().show(hostile_snapshot())
    shown = capsys.readouterr().out
    assert_harmless(shown)
    assert shown.count("[/red] :warning:") >= 6


def test_lines_for_programs_are_json(capsys: pytest.CaptureFixture[str]) -> None:
    view = JsonView()
    view.say(HOSTILE)
    view.log(0, HOSTILE)
    view.show(hostile_snapshot())
    view.end(VERDICT)
    shown = capsys.readouterr().out
    assert not OBEYED.search(shown)
    assert [json.loads(line)["event"] for line in shown.splitlines()] == ["notice", "log", "state", "verdict"]


def test_the_live_screen() -> None:
    out = io.StringIO()
    view = LiveView(rich.console.Console(file=out, width=200, height=30, force_terminal=True), prefixed=True)
    view.show(hostile_snapshot())
    with view.live:
        view.say(HOSTILE)
        view.log(0, HOSTILE)
        view.end(VERDICT)
    shown = out.getvalue()
    assert_harmless(shown.replace("\x1b[2K", ""))  # Rich's own.
    assert shown.count("[/red] :warning:") >= 5


def test_the_screen_of_a_fleet(capsys: pytest.CaptureFixture[str]) -> None:
    out = io.StringIO()
    view = LiveFleetView(2, rich.console.Console(file=out, width=200, height=30, force_terminal=True))
    line = f"progress worker=7/9 attempt=1 epoch=1/2 step=1/2 {HOSTILE.replace(' ', '_')}=1 examples/s=1"
    for text in (line, line.replace("worker=7/9", "worker=0/9")):
        progress = Progress.parse(text)
        assert progress
        view.progress(progress, text)
        PlainFleetView().progress(progress, text)
    state = StateLine.parse("agent worker=7/9 attempt=1 state=training restarts=0 pid=1 spare=none last=new")
    assert state
    view.state(state, "")
    with view.live:
        view.say(HOSTILE)
    PlainFleetView().say(HOSTILE)
    assert_harmless(out.getvalue().replace("\x1b[2K", ""))
    assert_harmless(capsys.readouterr().out)


# -- Typed readers -----------------------------------------------------------------------------------------------------

NUMBERS: st.SearchStrategy[Any] = (
    st.integers() | st.floats() | st.sampled_from([10**400, -(10**400), 10**20, True, "1", None, [], {}])
)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=10) | st.just(HOSTILE),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = (
    "format", "worker", "attempt", "exit_code", "reason", "meaning", "cause", "accused", "killed_by_agent", "signal",
    "step", "restarts", "errors", "run", "output", "workers", "epochs", "steps", "seconds", "loss", "val_loss",
    "examples_per_second", "images_per_second", "versions",
)  # fmt: skip
MESSAGES = st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, JSON | NUMBERS))
FUZZED = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))


def dumped(value: object) -> str:
    """JSON with NaN and the like, as many programs write it."""
    return json.dumps(value)


def as_json(verdict: Verdict) -> None:
    """Writes a verdict for programs and for people."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        JsonView().end(verdict)
        PlainView(prefixed=False).end(verdict)
    assert not OBEYED.search(out.getvalue().partition("\n")[2])


@FUZZED
@given(message=MESSAGES | JSON, code=st.sampled_from([0, 1, 64, 75, 137, 143]))
def test_whatever_a_termination_message_says(message: Any, code: int) -> None:
    facts = termination_message.loads(dumped(message))
    ended = "complete" if code == 0 else "failed"
    phase = "Succeeded" if code == 0 else "Failed"
    chief = pod(0, phase=phase, started=2.0, finished=5.0, exit_code=code, facts=facts)
    other = failed(1, 75, 6.0, facts=facts)
    for pods in ((chief,), (chief, other), (running(0), other)):
        told = seen(*pods, warnings=(warned(pods[0].uid, HOSTILE, HOSTILE),), ended=ended, reason=HOSTILE, finished=7.0)
        as_json(watched_verdict(told, End.JOB, SPENT))


@pytest.mark.parametrize(
    "text", ["[" * 4000, "{" * 4000, '{"a":' * 700 + "1" + "}" * 700, "1" * 4000, '{"step": 1e999}']
)
def test_a_termination_message_that_is_hard_to_read(text: str) -> None:
    facts = termination_message.loads(text)
    assert isinstance(facts, dict)
    chief = pod(0, phase="Failed", started=2.0, finished=5.0, exit_code=1, facts=facts)
    as_json(watched_verdict(seen(chief, ended="failed", finished=7.0), End.JOB, SPENT))


LINES = st.fixed_dictionaries(
    {"attempt": st.integers(1, 9) | JSON},
    optional={
        "step_to": st.integers(0, 9) | JSON, "reason": st.text(max_size=5) | JSON, "format": NUMBERS, "seconds": JSON,
        "failure": MESSAGES | JSON,
    },
)  # fmt: skip


@FUZZED
@given(lines=st.lists(LINES | JSON, max_size=3), result=st.none() | MESSAGES)
def test_whatever_an_output_says(lines: list[Any], result: dict[str, Any] | None) -> None:
    data = "".join(dumped(line) + "\n" for line in lines).encode()
    with contextlib.suppress(DataError):
        stored = [StoredAttempt.from_json(line) for line in attempts.parse(data)]
        as_json(stored_verdict("run", "s3://b/run", json.loads(dumped(result)) if result else None, stored))
        as_json(stored_verdict("run", "s3://b/run", None, stored))


WORDS = st.sampled_from(
    [
        "0", "1", "7", "-1", "9" * 400, "1e999", "nan", "inf", "x", "", "0/0", "1/0", "7/2", "1/2", "2/2", "1/1/1",
        "\u0663/\u0663", HOSTILE,
    ]
)  # fmt: skip


# The code that is trained names its metrics: as it likes, as what a program reads beside them, as a parameter here.
NAMES = st.sampled_from(
    [
        "event", "self", "time", "text", "worker", "workers", "attempt", "epochs", "steps", "saved", "metrics",
        "validation", "examples_per_second", "data_wait", "val_", "val_event", "val_self", "val_steps",
    ]
) | st.from_regex(r"[^\s=]+", fullmatch=True)  # fmt: skip


def shown_by_every_view(line: str) -> dict[str, Any]:
    """Gives a line of worker 0's log to every view; what the one for programs makes of it."""
    console = rich.console.Console(file=io.StringIO(), width=100)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        JsonView().log(0, line)
        told: dict[str, Any] = json.loads(out.getvalue(), parse_constant=pytest.fail)
        for view in (
            PlainView(prefixed=False),
            PlainView(prefixed=True),
            TableView(),
            LiveView(console, prefixed=True),
        ):
            view.log(0, line)
        for fleet in (PlainFleetView(), JsonFleetView(), LiveFleetView(2, console)):
            if progress := Progress.parse(line):
                fleet.progress(progress, line)
            if state := StateLine.parse(line):
                fleet.state(state, line)
    assert not OBEYED.search(out.getvalue())
    return told


@FUZZED
@given(
    words=st.fixed_dictionaries(
        dict.fromkeys(("worker", "attempt", "epoch", "step", "loss", "val_loss", "examples/s", "saved"), WORDS)
        | dict.fromkeys(("state", "restarts", "pid", "spare", "last"), WORDS)
    ),
    more=st.dictionaries(NAMES, WORDS, max_size=3),
)
def test_whatever_a_log_says(words: dict[str, str], more: dict[str, str]) -> None:
    names = ("worker", "attempt", "epoch", "step", "loss", "val_loss", "examples/s", "saved")
    measured = {**{name: words[name] for name in names}, **more}
    progress_line = "progress " + " ".join(f"{name}={word}" for name, word in measured.items())
    state_names = ("worker", "attempt", "state", "restarts", "pid", "spare", "last")
    state_line = "agent " + " ".join(f"{name}={words[name]}" for name in state_names)
    timeline, activity = Timeline(), WorkerActivity()
    for time, line in enumerate((progress_line, state_line, "progress step=1/2", state_line)):
        state, progress = StateLine.parse(line), Progress.parse(line)
        timeline.take(float(time), state, progress)
        activity.read(running(0), state, progress)
        shown_by_every_view(line)
    told = seen(running(0), running(1))
    shown = Snapshot.of(told, timeline.attempt, timeline.progress, activity, timeline.step_seconds)
    view = LiveView(rich.console.Console(file=io.StringIO(), width=100, force_terminal=True), prefixed=False)
    view.show(shown)
    rich.console.Console(file=io.StringIO(), width=100).print(view.screen())
    fleet = LiveFleetView(2, rich.console.Console(file=io.StringIO(), width=100))
    if progress := Progress.parse(progress_line):
        fleet.progress(progress, progress_line)
    if state := StateLine.parse(state_line):
        fleet.state(state, state_line)
    rich.console.Console(file=io.StringIO(), width=100).print(fleet._screen())
    timeline.spent(told, 100.0)


PROGRESS = "progress worker=0/2 attempt=3 epoch=4/5 step=6/7 examples/s=8 saved=6"


@FUZZED
@given(names=st.sets(NAMES, max_size=3))
def test_no_metric_takes_the_place_of_what_programs_read(names: set[str]) -> None:
    line = f"{PROGRESS} {' '.join(f'{name}=0.5' for name in names)}"
    progress = Progress.parse(line)
    told = shown_by_every_view(line)
    if progress is None:  # One that is called as a key of the line, which it breaks.
        assert names & {"worker", "attempt", "epoch", "step", "saved", "examples/s"}
        assert told["event"] == "log"
        return
    fixed = {
        "event": "progress", "worker": 0, "workers": 2, "attempt": 3, "epoch": 4, "epochs": 5, "step": 6, "steps": 7,
        "examples_per_second": 8.0, "saved": 6,
    }  # fmt: skip
    assert {name: told[name] for name in fixed} == fixed
    assert told["time"] > 1e9
    others = names - {*fixed, "time", "data_wait", "val_"}
    assert {name: told[name] for name in others} == dict.fromkeys(others, 0.5)
