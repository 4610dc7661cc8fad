"""The coordinator over HTTP: how the agents of the other workers ask it, and how worker 0's agent answers.

A request is a POST of one JSON object, which says under "ask" what is asked:

    {"ask": "meet", "join": Join}                           answered with {"begin": Begin} or {"finish": Finish}
    {"ask": "hold", "index": …, "token": …, "attempt": …}   answered with {"over": Over}

The answer may take hours.
"""

import contextlib
import dataclasses
import http.client
import json
import select
import socket
import time
from collections.abc import Callable
from typing import Any, Protocol

from trainer.agent.coordinator import Coordinator
from trainer.agent.messages import Begin, Finish, Join, Over
from trainer.core.causes import Cause
from trainer.core.exit_codes import ExitCode

PATH = "/rendezvous"

_CONNECT_SECONDS = 5.0
_RETRY_SECONDS = 1.0  # At most, between two requests while worker 0's agent cannot be reached.
_FATAL_SECONDS = 30.0  # For telling worker 0's agent of an error that ends all workers.
_LEAVE_SECONDS = 2.0  # For telling it that this worker was told to go: the grace period runs.


class AnyCoordinator(Protocol):
    """The coordinator as an agent sees it: `Coordinator` itself on worker 0, `RemoteCoordinator` on the others."""

    def meet(self, join: Join) -> Begin | Finish:
        """Waits until the next attempt begins or there is none for this agent."""

    def hold(self, index: int, token: str, attempt: int) -> Over:
        """Waits until an attempt is over."""


class RemoteCoordinator:
    """The coordinator in worker 0's agent, asked over HTTP."""

    def __init__(self, address: str, *, timeout: float) -> None:
        """Takes where it is; nothing is asked yet.

        Args:
          address: "host:port" of worker 0's agent.
          timeout: seconds without an answer after which it is given up.
        """
        self._address, self._timeout = address, timeout

    def meet(self, join: Join) -> Begin | Finish:
        """As `Coordinator.meet`; asks again while worker 0's agent cannot be reached, as long as that is worth it."""
        deadline = time.monotonic() + self._patience(join.ended.cause)
        pause = 0.05
        while True:
            asked = time.monotonic()
            try:
                return _begin_or_finish(self._ask({"ask": "meet", "join": dataclasses.asdict(join)}))
            except (OSError, http.client.HTTPException, LookupError, ValueError) as error:
                now = time.monotonic()
                waited_for_an_answer = now - asked > _CONNECT_SECONDS + _RETRY_SECONDS
                if waited_for_an_answer:  # Worker 0's agent was there and is gone: its successor may take as long.
                    deadline = max(deadline, now + self._timeout)
                if now >= deadline:
                    return Finish(code=ExitCode.PEER_LOST, reason=self._unreachable(error), accused=(0,))
                time.sleep(pause)
                pause = min(2 * pause, _RETRY_SECONDS)

    def hold(self, index: int, token: str, attempt: int) -> Over:
        """As `Coordinator.hold`; an attempt is over, too, when worker 0's agent is gone."""
        try:
            return Over.from_json(
                self._ask({"ask": "hold", "index": index, "token": token, "attempt": attempt})["over"]
            )
        except (OSError, http.client.HTTPException, LookupError, ValueError):
            reason = f"worker 0's agent at {self._address} is gone"
            return Over(attempt=attempt, cause=Cause.AGENT_LOST, reason=reason, accused=(0,))

    def _patience(self, cause: Cause) -> float:
        """Seconds for which worker 0's agent is asked again while it cannot be reached."""
        if cause is Cause.LEFT:
            return _LEAVE_SECONDS
        if cause is Cause.FATAL:
            return min(self._timeout, _FATAL_SECONDS)
        return self._timeout

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        host, _, port = self._address.rpartition(":")
        connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=_CONNECT_SECONDS)
        with contextlib.closing(connection):
            connection.connect()
            keep_alive(connection.sock)
            connection.sock.settimeout(None)  # The answer may take hours; keep-alive notices a dead machine.
            connection.request("POST", PATH, json.dumps(question), {"Content-Type": "application/json"})
            response = connection.getresponse()
            body = response.read()
            if response.status != 200:
                raise http.client.HTTPException(f"{response.status} {body.decode(errors='replace').strip()}")
            return dict(json.loads(body))

    def _unreachable(self, error: Exception) -> str:
        problem = f"its name does not resolve ({error})" if isinstance(error, socket.gaierror) else str(error)
        return f"worker 0's agent at {self._address} did not answer within {self._timeout:g} s: {problem}"


def answer(coordinator: Coordinator, question: dict[str, Any], connection: socket.socket) -> dict[str, Any]:
    """Answers one request of a `RemoteCoordinator`, however long that takes.

    Args:
      coordinator: the coordinator in this process.
      question: what was received.
      connection: the client's; when it is closed the client is gone.

    Returns:
      What is to be sent; for "meet" with the index of who asked.

    Raises:
      AttributeError, KeyError, TypeError, ValueError: it is no request of an agent.
    """
    keep_alive(connection)
    gone = _watch(connection)
    if question["ask"] == "meet":
        join = Join.from_json(question["join"])
        reply = coordinator.meet(join, gone)
        return {type(reply).__name__.lower(): dataclasses.asdict(reply), "index": join.index}
    over = coordinator.hold(question["index"], question["token"], question["attempt"], gone)
    return {"over": dataclasses.asdict(over)}


def keep_alive(connection: socket.socket) -> None:
    """Lets the kernel notice, within 20 s, that the machine at the other end is gone."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in ((socket.TCP_KEEPIDLE, 5), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3)):
        connection.setsockopt(socket.IPPROTO_TCP, option, value)


def _begin_or_finish(value: dict[str, Any]) -> Begin | Finish:
    if "begin" in value:
        return Begin.from_json(value["begin"])
    if "finish" in value:
        return Finish.from_json(value["finish"])
    raise ValueError(f"neither begin nor finish: {value!r}")


def _watch(connection: socket.socket) -> Callable[[], bool]:
    """Makes a function that says whether the other end has closed the connection."""
    poll = select.poll()  # Not select, which ends at descriptor 1023.
    poll.register(connection, select.POLLIN | select.POLLRDHUP)

    def gone() -> bool:
        try:
            return bool(poll.poll(0)) and connection.recv(1, socket.MSG_PEEK) == b""
        except OSError:
            return True

    return gone
