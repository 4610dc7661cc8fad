"""The agent's port: the coordinator (on worker 0), health for the kubelet, and metrics for Prometheus.

One thread serves all connections, and one more asks the coordinator, which may have to wait for a disk. A request that
is held costs a connection and an entry in the coordinator's table, so that a run can have thousands of workers.

Whoever reaches the port may connect, so a request is believed only as far as it proves itself: the token, then the
size, then the body. What tells no secret, /healthz, /readyz and /metrics, needs no token.
"""

import asyncio
import errno
import hmac
import queue
import socket
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import prometheus_client

from trainer.agent.coordination.coordinator import Coordinator
from trainer.agent.coordination.coordinator_http import PATH, Answer, answer_body, authorization, keep_alive, question
from trainer.agent.coordination.messages import MOST_BYTES, Finish, Hold, Join
from trainer.agent.port import http_messages
from trainer.agent.port.connections import Connections
from trainer.agent.port.http_messages import Head
from trainer.agent.port.refusals import Refusals
from trainer.agent.pulse import HUNG_SECONDS, Pulse
from trainer.agent.status import Status
from trainer.core import threads, typed_json
from trainer.core.exit_codes import UsageError

_SILENT_CONNECTIONS = 256  # Besides those of the run's own agents, which all connect at the same moment.
_BACKLOG = 4096  # All agents of a big job ask at the same moment.
_FULL = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_LINGER_SECONDS = 0.5  # For a client whose request is refused to read why.
_TICK = 0.5  # Seconds between two looks at clocks.


class AgentServer:
    """Serves in threads of its own until the process ends."""

    def __init__(
        self,
        port: int,
        *,
        status: Status,
        coordinator: Coordinator | None,
        token: str,
        refusals: Refusals,
        pulse: Pulse,
        on_error: Callable[[Exception], None],
    ) -> None:
        """Begins to listen.

        Args:
          port: on all addresses of this machine.
          status: what /readyz and /metrics tell.
          coordinator: what /rendezvous asks; None on the other workers.
          token: the run's, which whoever asks the coordinator must know; "": anybody may ask.
          refusals: takes what was refused.
          pulse: what /healthz tells.
          on_error: takes, in another thread, what the coordinator raised, or what ended the serving.

        Raises:
          UsageError: the port is taken.
        """
        self._socket = _listen(port)
        self.status, self.coordinator, self.refusals, self.pulse = status, coordinator, refusals, pulse
        self.connections = Connections(_SILENT_CONNECTIONS + 2 * status.workers)
        self._authorization = authorization(token).get("Authorization", "").encode()
        self._on_error = on_error
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()  # What may have to wait.
        self._last_answer: tuple[Answer, bytes] | None = None
        self._said_at = float("-inf")  # When a failure of this program's was last told.
        self.registry = prometheus_client.CollectorRegistry()
        self.registry.register(status)
        self.registry.register(refusals)

    def start(self) -> None:
        """Begins to answer."""
        for work in (self._serve, self._make_calls):
            threads.start_patiently(threading.Thread(target=work, name="server", daemon=True))

    def call(self, function: Callable[[], None]) -> None:
        """Has a function called in another thread than the one that serves, after those that came before."""
        self._calls.put(function)

    def later(self, function: Callable[..., None], *arguments: Any) -> None:
        """Has a function called by the thread that serves."""
        self._loop.call_soon_threadsafe(function, *arguments)

    def admits(self, sent: str) -> bool:
        """Whether who sends that header knows the run's token; how long that takes tells nothing of it."""
        return not self._authorization or hmac.compare_digest(sent.encode(errors="replace"), self._authorization)

    def encoded(self, answer: Answer) -> bytes:
        """The whole answer over HTTP; the same answer goes to all workers, and is long where they are many."""
        if self._last_answer is None or self._last_answer[0] is not answer:
            self._last_answer = answer, http_messages.answer(200, answer_body(answer), "application/json")
        return self._last_answer[1]

    def _serve(self) -> None:
        try:
            asyncio.run(self._serve_for_ever())
        except BaseException as error:
            self._on_error(threads.as_exception(error))

    async def _serve_for_ever(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(self._take_error)
        await self._loop.create_server(lambda: _Connection(self), sock=self._socket, backlog=_BACKLOG)
        while True:
            self.connections.close_silent()
            self.pulse.look()
            if self.coordinator:
                self.call(self.coordinator.look)
            await asyncio.sleep(_TICK)

    def _make_calls(self) -> None:
        while True:
            try:
                self._calls.get()()
            except BaseException as error:
                self._on_error(threads.as_exception(error))

    def _take_error(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Makes room for connections, passes over clients that went away, and tells of all else, but not too often."""
        error = context.get("exception")
        if isinstance(error, OSError):
            if error.errno in _FULL:
                self.connections.close_older_half()
        elif error is not None and time.monotonic() - self._said_at > 60.0:
            self._said_at = time.monotonic()
            traceback.print_exception(error)


class _Connection(asyncio.Protocol):
    """A connection: what has come of its request, and what is done about it."""

    def __init__(self, server: AgentServer) -> None:
        self._server = server
        self._buffer = bytearray()
        self._length: int | None = None  # Of the body that is waited for.
        self._passed_over: int | None = None  # Bytes that came and nobody needs, once the request has come.
        self._on_gone: Callable[[], None] | None = None  # What the coordinator is to hear when the client goes.
        self._join: Join | None = None  # What is asked, if it is that.
        self._told = False  # Whether it was told how the run ends.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        self._transport = transport
        self._server.connections.wait_for(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.forget(self._transport)
        coordinator, join = self._server.coordinator, self._join
        if coordinator and join and self._told and exc is None:
            self._server.call(lambda: coordinator.answered(join.index))
        elif self._passed_over is not None:
            self._server.call(lambda: self._on_gone() if self._on_gone else None)

    def data_received(self, data: bytes) -> None:
        if self._passed_over is not None:
            self._passed_over += len(data)
            if self._passed_over > MOST_BYTES:
                self._transport.abort()
            return
        searched = max(0, len(self._buffer) - len(http_messages.END_OF_HEAD))
        self._buffer += data
        if self._length is None:
            end = self._buffer.find(http_messages.END_OF_HEAD, searched)
            if end > http_messages.LONGEST_HEAD or (end < 0 and len(self._buffer) > http_messages.LONGEST_HEAD):
                self._refuse(431, f"the head of a request has at most {http_messages.LONGEST_HEAD} bytes")
            elif end >= 0:
                head = bytes(self._buffer[:end])
                del self._buffer[: end + len(http_messages.END_OF_HEAD)]
                self._take_head(head)
        if self._length is not None and len(self._buffer) >= self._length:
            self._ask(bytes(self._buffer[: self._length]))

    def _take_head(self, data: bytes) -> None:
        try:
            head = Head.parse(data)
        except ValueError as error:
            self._refuse(400, f"no request of HTTP/1.1: {error}")
            return
        match head.method:
            case "GET":
                self._get(head)
            case "POST":
                self._check(head)
            case _:
                self._refuse(405, "the methods here are GET and POST")

    def _get(self, head: Head) -> None:
        server, content_type = self._server, "text/plain; charset=utf-8"
        match head.path:
            case "/healthz":
                silent = server.pulse.silent_seconds
                status, text = 200, "ok\n"
                if silent > HUNG_SECONDS:
                    status, text = 503, f"the agent's main loop has not come round for {silent:.0f} s\n"
            case "/readyz":
                status, text = 200 if server.status.state == "training" else 503, f"{server.status.state}\n"
            case "/metrics":
                status, text = 200, prometheus_client.generate_latest(server.registry).decode()
                content_type = prometheus_client.CONTENT_TYPE_LATEST
            case _:
                status, text = 404, "here are /healthz, /readyz, /metrics and, of worker 0, /rendezvous\n"
        # Nobody here sends a request before the answer to the last, or leaves answers unread.
        keeps = head.keeps and not self._buffer and not self._transport.get_write_buffer_size()
        self._send(http_messages.answer(status, text.encode(), content_type, keeps=keeps), closes=not keeps)

    def _check(self, head: Head) -> None:
        """Decides by the head alone whether the body is read."""
        length = head.headers.get("content-length", "")
        if not self._server.admits(head.headers.get("authorization", "")):
            why = "this request lacks the run's token: all workers of a run need the same TRAINER_TOKEN"
            self._refuse(401, why)
        elif head.path != PATH or self._server.coordinator is None:
            self._refuse(404, "the rendezvous is at worker 0's agent")
        elif not (length.isascii() and length.isdecimal()) or "transfer-encoding" in head.headers:
            self._refuse(400, "a message says its length, in Content-Length")
        elif len(length) > len(str(MOST_BYTES)) or int(length) > MOST_BYTES:
            self._refuse(413, f"a message has at most {MOST_BYTES} bytes")
        else:
            self._length = int(length)

    def _ask(self, body: bytes) -> None:
        """Asks the coordinator, whose answer may take hours."""
        try:
            asked = question(typed_json.loads(body))
        except ValueError as error:
            self._refuse(400, f"not a question of an agent: {error}")
            return
        self._request_has_come()
        self._join = asked if isinstance(asked, Join) else None
        keep_alive(self._transport.get_extra_info("socket"))
        self._server.call(lambda: self._ask_coordinator(asked))

    def _ask_coordinator(self, asked: Join | Hold) -> None:
        coordinator = self._server.coordinator
        if coordinator and isinstance(asked, Join):
            self._on_gone = coordinator.meet(asked, self._answer)
        elif coordinator and isinstance(asked, Hold):
            self._on_gone = coordinator.hold(asked, self._answer)

    def _answer(self, answer: Answer) -> None:
        self._told = isinstance(answer, Finish)
        self._server.later(lambda: self._send(self._server.encoded(answer), closes=True))

    def _request_has_come(self) -> None:
        self._server.connections.forget(self._transport)
        self._buffer, self._length, self._passed_over = bytearray(), None, 0

    def _refuse(self, status: int, why: str) -> None:
        address = self._transport.get_extra_info("peername", ("",))[0].removeprefix("::ffff:")  # An IPv4 client's.
        self._server.refusals.add(status, address)
        self._request_has_come()
        self._transport.write(http_messages.answer(status, f"{why}\n".encode(errors="replace")))
        # What came and was not read would make the kernel reset the connection, and the client lose the answer.
        if self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()
        asyncio.get_running_loop().call_later(_LINGER_SECONDS, self._transport.abort)

    def _send(self, data: bytes, *, closes: bool) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(data)
        self._server.connections.wait_for(self._transport)  # For the next request, or for the client to read.
        if closes:
            self._passed_over = self._passed_over or 0
            self._transport.close()


def _listen(port: int) -> socket.socket:
    """A socket on all addresses: IPv6 alone or beside IPv4; IPv4 where the kernel has nothing else."""
    families = (socket.AF_INET6, socket.AF_INET) if socket.has_dualstack_ipv6() else (socket.AF_INET,)
    for family in families:
        try:
            dual = family == socket.AF_INET6
            return socket.create_server(("", port), family=family, backlog=_BACKLOG, dualstack_ipv6=dual)
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL or family == families[-1]:  # IPv6 is known and must not be spoken.
                raise UsageError(
                    f"the agent cannot listen on --port={port}: {error.strerror}; give it a free one"
                ) from None
    raise AssertionError
