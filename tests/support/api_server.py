"""A scripted API server, for what a real one does too seldom to wait for it: 410, broken streams, refusals."""

import contextlib
import http.server
import json
import pathlib
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

import yaml

Query = dict[str, str]
Answer = Callable[["Handler", Query], None]


class Handler(http.server.BaseHTTPRequestHandler):
    """One request, and the ways to answer it; `answer` is the test's."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # Head and body are two packets: with the algorithm each answer would take 40 ms.
    answer: Answer
    posted = ""  # The body of a POST, PATCH or DELETE.

    def do_GET(self) -> None:
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
        type(self).answer(self, query)

    def do_POST(self) -> None:
        self.posted = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        self.do_GET()

    def do_DELETE(self) -> None:
        self.do_POST()

    def do_PATCH(self) -> None:
        assert self.headers["Content-Type"] == "application/merge-patch+json"
        self.do_POST()

    def log_message(self, *_: object) -> None:
        """Keeps standard error free of a line for each request."""

    def reply(self, value: Any, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")  # Helm would take it for protobuf.
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, status: int, message: str) -> None:
        self.reply({"kind": "Status", "message": message, "code": status}, status)

    def begin(self) -> None:
        """Begins an answer in chunks: a watch, or a log."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def send(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def send_event(self, kind: str, item: Any) -> None:
        self.send(json.dumps({"type": kind, "object": item}).encode() + b"\n")

    def end(self) -> None:
        self.wfile.write(b"0\r\n\r\n")

    def tear(self) -> None:
        """Breaks off in the middle of an answer."""
        self.close_connection = True
        self.connection.shutdown(2)


def item(name: str, version: int) -> dict[str, Any]:
    """The least that an object of the API has."""
    return {"metadata": {"name": name, "resourceVersion": str(version)}}


@contextlib.contextmanager
def api_server(answer: Answer, folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """The path of a kubeconfig for a server that answers so until the end of the block."""
    handler = type("Scripted", (Handler,), {"answer": staticmethod(answer)})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield kubeconfig(folder, f"http://127.0.0.1:{server.server_address[1]}")
    finally:
        server.shutdown()
        server.server_close()


def kubeconfig(folder: pathlib.Path, server: str) -> pathlib.Path:
    """A kubeconfig with the one context `local`."""
    path = folder / "kubeconfig"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "local", "cluster": {"server": server}}],
        "users": [{"name": "me", "user": {"token": "t"}}],
        "contexts": [{"name": "local", "context": {"cluster": "local", "user": "me", "namespace": "team"}}],
        "current-context": "local",
    }
    path.write_text(yaml.safe_dump(config))
    return path
