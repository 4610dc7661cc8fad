"""What an agent takes for the cause of its training process's end, where the attempt is over at the same moment."""

import os
import pathlib
import signal
import sys

import pytest

from trainer.agent.child import Child
from trainer.agent.flags import AgentConfig
from trainer.agent.messages import Over
from trainer.agent.status import Status
from trainer.agent.watchdog import Watchdog
from trainer.core.causes import Cause

LOST = Over(attempt=1, cause=Cause.PEER_LOST, reason="worker 0 ended with 75")


def watched() -> tuple[Child, Watchdog]:
    command = (sys.executable, "-c", "import time; time.sleep(600)")
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
