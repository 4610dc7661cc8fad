"""The agent's port: the coordinator (on worker 0), health for the kubelet, and metrics for Prometheus.

Whoever reaches the port may connect, so a request is believed only as far as it proves itself: the token, then the
size, then the body. What tells no secret, /healthz, /readyz and /metrics, needs no token.
"""

import errno
import hmac
import http.server
import json
import socket
import socketserver
import sys
import threading
import time
from typing import Any

import prometheus_client

from trainer.agent import coordinator_http
from trainer.agent.connections import SILENT_SECONDS, Connections
from trainer.agent.coordinator import Coordinator
from trainer.agent.messages import MOST_BYTES
from trainer.agent.refusals import Refusals
from trainer.agent.status import Status
from trainer.core import threads, typed_json
from trainer.core.exit_codes import UsageError

_SILENT_CONNECTIONS = 256  # Besides those of the run's own agents, which all connect at the same moment.
_FULL = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_LINGER_SECONDS = 0.5  # For a client whose request is refused to read why.
_PAUSE = 0.1  # Seconds before the next connection is taken in when there is no room for it.


class AgentServer(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """Serves in threads of its own until the process ends."""

    daemon_threads = True
    request_queue_size = 1024  # All agents of a big job ask at the same moment.

    def __init__(
        self, port: int, *, status: Status, coordinator: Coordinator | None, token: str, refusals: Refusals
    ) -> None:
        """Begins to listen.

        Args:
          port: on all addresses of this machine.
          status: what /readyz and /metrics tell.
          coordinator: what /rendezvous asks; None on the other workers.
          token: the run's, which whoever asks the coordinator must know; "": anybody may ask.
          refusals: takes what was refused.

        Raises:
          UsageError: the port is taken.
        """
        # IPv6 alone or beside IPv4, with one socket for both; IPv4 where the kernel has nothing else.
        self.address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
        try:
            try:
                super().__init__(("", port), _Handler)
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL:
                    raise
                self.address_family = socket.AF_INET  # The kernel knows IPv6 and is told not to speak it.
                super().__init__(("", port), _Handler)
        except OSError as error:
            raise UsageError(
                f"the agent cannot listen on --port={port}: {error.strerror}; give it a free one"
            ) from None
        self.status, self.coordinator, self.refusals = status, coordinator, refusals
        self.connections = Connections(_SILENT_CONNECTIONS + 2 * status.workers)
        self._token = token
        self.registry = prometheus_client.CollectorRegistry()
        self.registry.register(status)
        self.registry.register(refusals)

    def start(self) -> None:
        """Begins to answer."""
        threads.start_patiently(threading.Thread(target=self.serve_forever, name="server", daemon=True))

    def admits(self, authorization: str) -> bool:
        """Whether who sends that header knows the run's token; how long that takes tells nothing of it."""
        if not self._token:
            return True
        expected = coordinator_http.authorization(self._token)["Authorization"]
        return hmac.compare_digest(authorization.encode(errors="replace"), expected.encode())

    def server_bind(self) -> None:
        """Binds, for both families; the base class would ask the name service for this machine's name."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "agent", self.server_address[1]

    def get_request(self) -> tuple[socket.socket, Any]:
        """Takes in the next connection, for which room is made where there is none."""
        try:
            connection, address = super().get_request()
        except OSError as error:
            if error.errno in _FULL:
                self.connections.close_oldest()
                time.sleep(_PAUSE)  # Until its thread has closed it.
            raise
        self.connections.wait_for(connection)
        return connection, address

    def service_actions(self) -> None:
        """Ends silent connections; called about twice a second."""
        self.connections.close_silent()

    def shutdown_request(self, request: Any) -> None:
        """Closes a connection."""
        self.connections.forget(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keeps silent about a client that went away before its answer was complete, or came when there was no room."""
        if not isinstance(sys.exception(), OSError | RuntimeError):
            super().handle_error(request, client_address)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: AgentServer
    protocol_version = "HTTP/1.1"
    timeout = SILENT_SECONDS  # For every read and write; a request that is held does neither.

    def do_GET(self) -> None:
        self.server.connections.forget(self.connection)
        match self.path.partition("?")[0]:
            case "/healthz":
                self._reply(200, "ok\n")
            case "/readyz":
                state = self.server.status.state
                self._reply(200 if state == "training" else 503, f"{state}\n")
            case "/metrics":
                metrics = prometheus_client.generate_latest(self.server.registry).decode()
                self._reply(200, metrics, prometheus_client.CONTENT_TYPE_LATEST)
            case _:
                self._reply(404, "here are /healthz, /readyz, /metrics and, of worker 0, /rendezvous\n")
        self.server.connections.wait_for(self.connection)

    def do_POST(self) -> None:
        self.close_connection = True
        if not self.server.admits(self.headers.get("Authorization", "")):
            self._refuse(401, "this request lacks the run's token: all workers of a run need the same TRAINER_TOKEN\n")
            return
        coordinator = self.server.coordinator
        if self.path != coordinator_http.PATH or coordinator is None:
            self._refuse(404, "the rendezvous is at worker 0's agent\n")
            return
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdecimal()) or "Transfer-Encoding" in self.headers:
            self._refuse(400, "a message says its length, in Content-Length\n")
            return
        if len(length) > len(str(MOST_BYTES)) or int(length) > MOST_BYTES:
            self._refuse(413, f"a message has at most {MOST_BYTES} bytes\n")
            return
        body = self.rfile.read(int(length))
        self.server.connections.forget(self.connection)
        try:
            answer = coordinator_http.answer(coordinator, typed_json.loads(body), self.connection)
        except ValueError as error:
            self._refuse(400, f"not a question of an agent: {error}\n")
            return
        self._reply(200, json.dumps(answer), "application/json")
        if "finish" in answer:
            coordinator.answered(answer["index"])

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Logs no requests: the pod's log is the worker's."""

    def _refuse(self, status: int, why: str) -> None:
        self.server.refusals.add(status, self.client_address[0].removeprefix("::ffff:"))  # An IPv4 client's.
        self._reply(status, why)
        # What came and was not read would make the kernel reset the connection, and the client lose the answer.
        deadline, left = time.monotonic() + _LINGER_SECONDS, MOST_BYTES
        self.connection.shutdown(socket.SHUT_WR)
        while left > 0 and (seconds := deadline - time.monotonic()) > 0:
            self.connection.settimeout(seconds)
            read = len(self.connection.recv(1 << 16))
            left = left - read if read else 0

    def _reply(self, code: int, body: str, content_type: str = "text/plain; charset=utf-8") -> None:
        data = body.encode(errors="replace")
        self.send_response(code)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(data)))
        if self.close_connection:
            self.send_header("Connection", "close")
        if code == 401:
            self.send_header("WWW-Authenticate", "Bearer")
        self.end_headers()
        self.wfile.write(data)
