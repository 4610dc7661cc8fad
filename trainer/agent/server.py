"""The agent's port: the coordinator (on worker 0), health for the kubelet, and metrics for Prometheus."""

import http.server
import json
import socketserver
import sys
import threading
from typing import Any

import prometheus_client

from trainer.agent import coordinator_http
from trainer.agent.coordinator import Coordinator
from trainer.agent.status import Status
from trainer.core.exit_codes import UsageError


class AgentServer(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """Serves in threads of its own until the process ends."""

    daemon_threads = True
    request_queue_size = 1024  # All agents of a big job ask at the same moment.

    def __init__(self, port: int, *, status: Status, coordinator: Coordinator | None) -> None:
        """Begins to listen.

        Args:
          port: on all addresses of this machine.
          status: what /readyz and /metrics tell.
          coordinator: what /rendezvous asks; None on the other workers.

        Raises:
          UsageError: the port is taken.
        """
        try:
            super().__init__(("", port), _Handler)
        except OSError as error:
            raise UsageError(
                f"the agent cannot listen on --port={port}: {error.strerror}; give it a free one"
            ) from None
        self.status, self.coordinator = status, coordinator
        self.registry = prometheus_client.CollectorRegistry()
        self.registry.register(status)

    def start(self) -> None:
        """Begins to answer."""
        threading.Thread(target=self.serve_forever, name="server", daemon=True).start()

    def server_bind(self) -> None:
        """Binds without asking the name service for this machine's name, as the base class would."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "agent", self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keeps silent about a client that went away before its answer was complete."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: AgentServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
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

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        coordinator = self.server.coordinator
        if self.path != coordinator_http.PATH or coordinator is None:
            self._reply(404, "the rendezvous is at worker 0's agent\n")
            return
        try:
            answer = coordinator_http.answer(coordinator, json.loads(body), self.connection)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            self._reply(400, f"not a question of an agent: {error!r}\n")
            return
        self._reply(200, json.dumps(answer), "application/json")
        if "finish" in answer:
            coordinator.answered(answer["index"])

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Logs no requests: the pod's log is the worker's."""

    def _reply(self, code: int, body: str, content_type: str = "text/plain; charset=utf-8") -> None:
        data = body.encode()
        self.send_response(code)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
