"""The rendezvous over HTTP: how an agent asks worker 0's, and how that one answers."""

import contextlib
import dataclasses
import http.client
import json
import select
import socket
import time
from collections.abc import Callable
from typing import Any, Protocol

from trainer.agent.coordinator import Meeting
from trainer.agent.messages import Begin, Ended, Finish, Join, Over
from trainer.core.causes import Cause
from trainer.core.exit_codes import ExitCode

PATH = "/rendezvous"

_CONNECT_SECONDS = 5.0
_RETRY_SECONDS = 1.0  # At most, between two tries to reach worker 0's agent.
_LEAVE_SECONDS = 2.0  # For a last word.


class Party(Protocol):
    """The meeting as an agent sees it: `Meeting` itself on worker 0, `Caller` on the others."""

    def meet(self, join: Join) -> Begin | Finish:
        """Waits until the next attempt begins or there is none for this agent."""

    def hold(self, index: int, token: str, attempt: int) -> Over:
        """Waits until an attempt is over."""


class Caller:
    """Asks worker 0's agent over HTTP."""

    def __init__(self, address: str, *, timeout: float) -> None:
        """Makes a caller.

        Args:
          address: "host:port" of worker 0's agent.
          timeout: seconds without an answer after which it is given up.
        """
        self._address, self._timeout = address, timeout

    def meet(self, join: Join) -> Begin | Finish:
        """As `Meeting.meet`; asks again while worker 0's agent cannot be reached, for `timeout` seconds."""
        last_word = join.ended.cause in (Cause.LEFT, Cause.FINAL)
        deadline = time.monotonic() + (min(self._timeout, 15 * _LEAVE_SECONDS) if last_word else self._timeout)
        if join.ended.cause is Cause.LEFT:
            deadline = time.monotonic() + _LEAVE_SECONDS
        pause = 0.05
        while True:
            asked = time.monotonic()
            try:
                return _answer(self._ask({"ask": "meet", "join": dataclasses.asdict(join)}))
            except (OSError, http.client.HTTPException, ValueError) as error:
                now = time.monotonic()
                if now - asked > _CONNECT_SECONDS + _RETRY_SECONDS:  # It was there, and is gone now.
                    deadline = max(deadline, now + self._timeout)
                if now >= deadline:
                    return Finish(code=ExitCode.PEER_LOST, reason=self._given_up(error))
                time.sleep(pause)
                pause = min(2 * pause, _RETRY_SECONDS)

    def hold(self, index: int, token: str, attempt: int) -> Over:
        """As `Meeting.hold`; an attempt is over, too, when worker 0's agent is gone."""
        try:
            value = self._ask({"ask": "hold", "index": index, "token": token, "attempt": attempt})
            return Over(**{**value["over"], "cause": Cause(value["over"]["cause"])})
        except (OSError, http.client.HTTPException, ValueError, KeyError):
            return Over(attempt=attempt, cause=Cause.AGENT_LOST, reason=f"worker 0's agent at {self._address} is gone")

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

    def _given_up(self, error: Exception) -> str:
        problem = f"its name does not resolve ({error})" if isinstance(error, socket.gaierror) else str(error)
        return f"worker 0's agent at {self._address} did not answer within {self._timeout:g} s: {problem}"


def answer(meeting: Meeting, question: dict[str, Any], connection: socket.socket) -> dict[str, Any]:
    """Answers one request of a `Caller`, however long that takes.

    Args:
      meeting: the meeting that worker 0's agent keeps.
      question: what the caller sent.
      connection: the caller's; when it is closed the caller is gone.

    Raises:
      KeyError, TypeError, ValueError: the question is none of a caller's.
    """
    keep_alive(connection)
    gone = _watch(connection)
    if question["ask"] == "meet":
        join = question["join"]
        ended = Ended.from_json(join["ended"])
        reply = meeting.meet(Join(**{**join, "ended": ended, "flags": tuple(join["flags"])}), gone)
        return {type(reply).__name__.lower(): dataclasses.asdict(reply), "index": join["index"]}
    over = meeting.hold(question["index"], question["token"], question["attempt"], gone)
    return {"over": dataclasses.asdict(over)}


def keep_alive(connection: socket.socket) -> None:
    """Lets the kernel notice, within 20 s, that the machine at the other end is gone."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in ((socket.TCP_KEEPIDLE, 5), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3)):
        connection.setsockopt(socket.IPPROTO_TCP, option, value)


def _answer(value: dict[str, Any]) -> Begin | Finish:
    if "begin" in value:
        return Begin(attempt=value["begin"]["attempt"], present=tuple(value["begin"]["present"]))
    if "finish" in value:
        return Finish(**value["finish"])
    raise ValueError(f"neither begin nor finish: {value!r}")


def _watch(connection: socket.socket) -> Callable[[], bool]:
    poll = select.poll()  # Not select, which ends at descriptor 1023.
    poll.register(connection, select.POLLIN | select.POLLRDHUP)

    def gone() -> bool:
        try:
            return bool(poll.poll(0)) and connection.recv(1, socket.MSG_PEEK) == b""
        except OSError:
            return True

    return gone
