"""What an agent takes for the cause of its training process's end, where the attempt is over at the same moment."""

import dataclasses
import os
import pathlib
import signal
import sys
from typing import cast

import pytest

from trainer.agent.coordination.coordinator import Coordinator
from trainer.agent.coordination.messages import Begin, Ended, Finish, Join, Over
from trainer.agent.flags import AgentConfig
from trainer.agent.processes.child import Child
from trainer.agent.processes.watchdog import Watchdog
from trainer.agent.status import Status
from trainer.core import exit_codes
from trainer.core.causes import Cause
from trainer.core.exit_codes import ExitCode, ExitRule, PodEnd

LOST = Over(attempt=1, cause=Cause.PEER_LOST, reason="worker 0 ended with 75")


def watched(program: str = "import time; time.sleep(600)") -> tuple[Child, Watchdog]:
    command = (sys.executable, "-c", program)
    child = Child(command, os.environ, spare=False, on_line=lambda *_: None)
    status = Status(worker=1, workers=2)
    return child, Watchdog(1, child, config=AgentConfig(), status=status, say=lambda _: None)


def reaped(child: Child) -> None:
    _, status = os.waitpid(child.pid, 0)
    child.ended(status)


def test_a_process_that_runs_is_stopped_by_its_agent() -> None:
    child, watchdog = watched()
    watchdog.attempt_over(LOST)
    reaped(child)
    ended = watchdog.ended(has_result=False)
    assert (ended.cause, ended.code) == (Cause.STOPPED, 128 + signal.SIGKILL)


def test_a_process_that_has_died_before_its_agent_hears_of_the_end_died_by_itself() -> None:
    """The kernel killed it, its peer lost it and said so, all before the agent looked at its own process."""
    child, watchdog = watched()
    os.kill(child.pid, signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    watchdog.attempt_over(LOST)
    reaped(child)
    ended = watchdog.ended(has_result=False)
    assert (ended.cause, ended.code) == (Cause.CRASH, 128 + signal.SIGKILL)


@pytest.mark.parametrize(("state", "flags", "ending"), [("S", 0x400040, False), ("D", 0x400044, True)])
def test_a_process_that_the_kernel_takes_apart_has_died(
    state: str, flags: int, ending: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With gigabytes to give back that takes a moment, which cannot be brought about at will: its /proc is made up."""
    child, watchdog = watched()
    stat = f"{child.pid} (a name) with )) {state} 1 2 2 0 -1 {flags} 9 9"
    monkeypatch.setattr(pathlib.Path, "read_text", lambda _: stat)
    watchdog.attempt_over(LOST)
    reaped(child)
    assert watchdog.ended(has_result=False).cause is (Cause.CRASH if ending else Cause.STOPPED)


NEW_CODE = 99  # No row has it.


@pytest.mark.parametrize(
    ("cause", "answers"),
    [
        (Cause.FATAL, [Finish]),
        (Cause.CRASH, [Begin, Finish]),  # One restart is allowed.
        (Cause.AGREED, [Begin, Begin, Begin]),
    ],
)
def test_a_new_exit_code_is_a_row_of_the_table(
    cause: Cause, answers: list[type[Begin | Finish]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process, the watchdog and the coordinator are the real ones; no other code names this exit code."""
    row = ExitRule(
        description="",
        meaning="new",
        code=cast(ExitCode, NEW_CODE),
        cause=cause,
        pod_end=PodEnd.COUNTED,
        agent="",
        job="",
    )
    monkeypatch.setitem(exit_codes._RULES, NEW_CODE, row)
    coordinator = Coordinator(
        workers=1, min_workers=0, elastic_wait=0, timeout=600, max_restarts=1, last_attempt=lambda: 0,
        saved_step=lambda: 0, on_news=lambda _: None, on_closed=lambda *_: None,
    )  # fmt: skip
    told: list[Begin | Finish] = []
    coordinator.meet(joining(Ended()), told.append)
    for attempt, expected in enumerate(answers, 1):
        child, watchdog = watched(f"raise SystemExit({NEW_CODE})")
        reaped(child)
        ended = dataclasses.replace(watchdog.ended(has_result=False), attempt=attempt)
        assert (ended.cause, ended.code) == (cause, NEW_CODE)
        coordinator.meet(joining(Ended.from_json(dataclasses.asdict(ended))), told.append)
        answer = told[attempt]
        assert type(answer) is expected
        if isinstance(answer, Finish):
            assert answer.code == NEW_CODE


def joining(ended: Ended) -> Join:
    return Join(index=0, workers=1, token="agent", ended=ended, flags=())
