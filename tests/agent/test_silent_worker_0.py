"""A worker that is told to go, or has an error for all, where worker 0's agent is reached and never answers."""

import contextlib
import pathlib
import signal
import socket
import time
from collections.abc import Iterator

import pytest

from tests.support.agents import running
from trainer.agent.coordination.coordinator_http import RemoteCoordinator
from trainer.agent.coordination.messages import Ended, Finish, Join
from trainer.core.causes import Cause
from trainer.core.exit_codes import ExitCode


@contextlib.contextmanager
def silent_server(port: int = 0) -> Iterator[int]:
    """The port of a server whose kernel takes connections, and which never looks at them."""
    with socket.create_server(("127.0.0.1", port), backlog=16) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize(
    ("ended", "timeout", "most"),
    [
        (Ended(cause=Cause.LEFT, attempt=1), 600.0, 4.0),
        (Ended(cause=Cause.FATAL, attempt=1, code=int(ExitCode.DATA)), 3.0, 5.0),
        # Longer than after which an agent that only waits takes worker 0's for one that was there, and waits anew.
        (Ended(cause=Cause.FATAL, attempt=1, code=int(ExitCode.DATA)), 8.0, 10.0),
    ],
)
def test_who_only_tells_something_does_not_wait_for_ever(ended: Ended, timeout: float, most: float) -> None:
    join = Join(index=1, workers=2, token="agent 1", ended=ended, flags=())
    with silent_server() as port:
        remote = RemoteCoordinator(f"127.0.0.1:{port}", timeout=timeout, token="", say=print)
        began = time.monotonic()
        answer = remote.meet(join)
        assert time.monotonic() - began < most
    assert isinstance(answer, Finish)
    assert (answer.code, answer.accused) == (ExitCode.PEER_LOST, (0,))


def test_an_agent_that_was_told_to_go_ends_with_143_within_its_grace_period(tmp_path: pathlib.Path) -> None:
    with running(tmp_path, 2) as run, silent_server(run.ports[0]):
        agent = run.start(1)
        agent.wait_for_line("state=meeting")
        began = time.monotonic()
        agent.process.send_signal(signal.SIGTERM)
        assert agent.end(30) == 143
        assert time.monotonic() - began < 15
        assert run.termination(1)["exit_code"] == 143
