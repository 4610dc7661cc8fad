"""The coordinator over HTTP: how the agents of the other workers ask it; `trainer.agent.port.server` answers.

A request is a POST of one JSON object, which says under "ask" what is asked:

    {"ask": "meet", "join": Join}                           answered with {"begin": Begin} or {"finish": Finish}
    {"ask": "hold", "index": …, "token": …, "attempt": …}   answered with {"over": Over}

The answer may take hours, but for those that are given at once. Each request carries the run's token as a bearer.
"""

import contextlib
import dataclasses
import http.client
import json
import socket
import time
from collections.abc import Callable
from typing import Any

from trainer.agent.coordination.messages import MOST_BYTES, Begin, Finish, Hold, Join, Over
from trainer.core import typed_json
from trainer.core.causes import Cause
from trainer.core.exit_codes import ExitCode, UsageError
from trainer.core.safe_text import one_line
from trainer.core.tf_config import host_and_port

PATH = "/rendezvous"
Answer = Begin | Finish | Over

_CONNECT_SECONDS = 5.0
_RETRY_SECONDS = 1.0  # At most, between two requests while worker 0's agent cannot be reached.
_FATAL_SECONDS = 30.0  # For telling worker 0's agent of an error that ends all workers.
_LEAVE_SECONDS = 2.0  # For telling it that this worker was told to go: the grace period runs.
_LEAST_SECONDS = 0.1  # For an answer, when the time for telling is nearly over.


class RemoteCoordinator:
    """The coordinator in worker 0's agent, asked over HTTP."""

    def __init__(self, address: str, *, timeout: float, token: str, say: Callable[[str], None]) -> None:
        """Takes where it is; nothing is asked yet.

        Args:
          address: "host:port" of worker 0's agent, "[host]:port" for IPv6.
          timeout: seconds without an answer after which it is given up.
          token: the run's; "": it has none.
          say: takes a sentence for a person.

        Raises:
          UsageError: the address is none.
        """
        try:
            self._host, self._port = host_and_port(address)
        except ValueError as error:
            raise UsageError(f"worker 0's agent is said to be at another place than can be: {error}") from None
        self._address, self._timeout, self._token, self._say = address, timeout, token, say
        self._said = ""  # What was said last.

    def meet(self, join: Join) -> Begin | Finish:
        """Waits until the next attempt begins or there is none for this agent; asks again while that is worth it."""
        # Who only tells something is answered at once; whoever takes that and is silent is not worth waiting for.
        tells = join.ended.cause in (Cause.LEFT, Cause.FATAL)
        deadline = time.monotonic() + self._patience(join.ended.cause)
        pause = 0.05
        while True:
            asked = time.monotonic()
            seconds = max(_LEAST_SECONDS, deadline - asked) if tells else None
            try:
                return _begin_or_finish(self._ask({"ask": "meet", "join": dataclasses.asdict(join)}, seconds), join)
            except (OSError, http.client.HTTPException, ValueError) as error:
                self._say_once(error)
                now = time.monotonic()
                waited_for_an_answer = now - asked > _CONNECT_SECONDS + _RETRY_SECONDS
                if waited_for_an_answer and not tells:
                    # Worker 0's agent was there and is gone: its successor may take as long.
                    deadline = max(deadline, now + self._timeout)
                if now >= deadline:
                    return Finish(code=ExitCode.PEER_LOST, reason=self._unreachable(error), accused=(0,))
                time.sleep(pause)
                pause = min(2 * pause, _RETRY_SECONDS)

    def hold(self, hold: Hold) -> Over:
        """Waits until an attempt is over, which it is, too, when worker 0's agent is gone."""
        try:
            return Over.from_json(self._ask({"ask": "hold", **dataclasses.asdict(hold)}).get("over", {}))
        except (OSError, http.client.HTTPException, ValueError):
            reason = f"worker 0's agent at {self._address} is gone"
            return Over(attempt=hold.attempt, cause=Cause.AGENT_LOST, reason=reason, accused=(0,))

    def _patience(self, cause: Cause) -> float:
        """Seconds for which worker 0's agent is asked again while it cannot be reached."""
        if cause is Cause.LEFT:
            return _LEAVE_SECONDS
        if cause is Cause.FATAL:
            return min(self._timeout, _FATAL_SECONDS)
        return self._timeout

    def _say_once(self, error: Exception) -> None:
        """Says that worker 0's agent does not believe this one: somebody may mend it before the time is over.

        It is no reason to end: the address may still be that of another run's pod.
        """
        if isinstance(error, _RefusedError) and str(error) != self._said:
            self._said = str(error)
            self._say(f"warning: worker 0's agent at {self._address} has refused this one, which asks again: {error}")

    def _ask(self, question: dict[str, Any], seconds: float | None = None) -> dict[str, Any]:
        """Asks, and waits so long for the answer; None: for hours, as keep-alive notices a dead machine."""
        connect_seconds = _CONNECT_SECONDS if seconds is None else min(_CONNECT_SECONDS, seconds)
        connection = http.client.HTTPConnection(self._host, self._port, timeout=connect_seconds)
        with contextlib.closing(connection):
            connection.connect()
            keep_alive(connection.sock)
            connection.sock.settimeout(seconds)
            headers = {"Content-Type": "application/json", **authorization(self._token)}
            connection.request("POST", PATH, json.dumps(question), headers)
            response = connection.getresponse()
            body = response.read(MOST_BYTES)
            if response.status != 200:
                raise _RefusedError(f"{response.status} {one_line(body.decode(errors='replace'))}")
            return typed_json.an_object(typed_json.loads(body), "the answer")

    def _unreachable(self, error: Exception) -> str:
        problem = f"its name does not resolve ({error})" if isinstance(error, socket.gaierror) else str(error)
        return f"worker 0's agent at {self._address} did not answer within {self._timeout:g} s: {problem}"


class _RefusedError(http.client.HTTPException):
    """The answer was another one than 200."""


def authorization(token: str) -> dict[str, str]:
    """The header in which a request carries the run's token, if there is one."""
    return {"Authorization": f"Bearer {token}"} if token else {}


def question(value: Any) -> Join | Hold:
    """Reads what a `RemoteCoordinator` asks.

    Raises:
      ValueError: it is no request of an agent.
    """
    value = typed_json.an_object(value, "it")
    match typed_json.text(value, "ask"):
        case "meet":
            return Join.from_json(value.get("join", {}))
        case "hold":
            return Hold.from_json(value)
        case _:
            raise ValueError("ask is neither meet nor hold")


def answer_body(answer: Answer) -> bytes:
    """What it is answered."""
    return json.dumps({type(answer).__name__.lower(): dataclasses.asdict(answer)}).encode()


def keep_alive(connection: socket.socket) -> None:
    """Lets the kernel notice, within 20 s, that the machine at the other end is gone."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in ((socket.TCP_KEEPIDLE, 5), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3)):
        connection.setsockopt(socket.IPPROTO_TCP, option, value)


def _begin_or_finish(value: dict[str, Any], join: Join) -> Begin | Finish:
    if "begin" not in value:
        return Finish.from_json(value.get("finish", {}))
    begin = Begin.from_json(value["begin"])
    if join.index not in begin.present or begin.present[-1] >= join.workers or begin.attempt <= join.ended.attempt:
        raise ValueError("it begins an attempt that this worker can have no part in")
    return begin
