"""A small HTTP proxy that counts requests and answers some itself, as a store does that is overloaded or refuses."""

import contextlib
import http.client
import threading
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = tuple[int, bytes, list[tuple[str, str]]]
S3_ERROR = b"<Error><Code>%s</Code><Message>%s</Message></Error>"


class RefusingProxy:
    """Passes requests on to `upstream`, except those for which `answer` has an answer."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream.removeprefix("http://")
        # Takes method and path; returns the status and the body to answer with, or None to pass the request on.
        self.answer: Callable[[str, str], tuple[int, bytes] | None] = lambda _method, _path: None
        # Takes the same; whether a request that was passed on, and done, is answered as if it had failed.
        self.loses: Callable[[str, str], bool] = lambda _method, _path: False
        self.requests: list[tuple[str, str, int]] = []  # Method, path, bytes in the body.
        self.one_by_one = False  # No request begins before the one before it is answered.
        self.turn = threading.Lock()

    def request(self, method: str, path: str, headers: Iterable[tuple[str, str]], body: bytes = b"") -> Answer:
        """Asks the upstream."""
        connection = http.client.HTTPConnection(self.upstream, timeout=30)
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers:
            if name.lower() not in ("connection", "transfer-encoding", "expect"):
                connection.putheader(name, value)
        connection.endheaders(body)
        response = connection.getresponse()
        answer = response.status, response.read(), response.getheaders()
        connection.close()
        return answer


@contextlib.contextmanager
def refusing_proxy(upstream: str) -> Iterator[tuple[str, RefusingProxy]]:
    """The address to use instead of `upstream`, and the proxy."""
    proxy = RefusingProxy(upstream)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = (
            True  # Head and body are two packets: with the algorithm each answer would take 40 ms.
        )

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with proxy.turn if proxy.one_by_one else contextlib.nullcontext():
                proxy.requests.append((self.command, self.path, len(body)))
                refusal = proxy.answer(self.command, self.path)
                status, text, headers = (
                    (*refusal, []) if refusal else proxy.request(self.command, self.path, self.headers.items(), body)
                )
            if not refusal and proxy.loses(self.command, self.path):
                status, text, headers = 503, b"", []
            self.send_response(status)
            length = str(len(text))
            for name, value in headers:
                if name.lower() == "content-length" and self.command == "HEAD":
                    length = value
                elif name.lower() not in ("connection", "transfer-encoding", "content-length"):
                    self.send_header(name, value)
            self.send_header("Content-Length", length)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(text)

        do_PUT = do_POST = do_DELETE = do_HEAD = do_PATCH = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """Keeps quiet: broken connections are what the tests are about."""

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", proxy
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
