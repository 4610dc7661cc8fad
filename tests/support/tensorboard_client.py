"""TensorBoard as a process, and what it answers over HTTP."""

import contextlib
import gzip
import http.client
import json
import os
import pathlib
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

from trainer.core.process import spawn


@contextlib.contextmanager
def tensorboard(run_dir: pathlib.Path | str, port: int, *, fast: bool) -> Iterator[None]:
    """A TensorBoard that reads with its fast reader or its Python one; killed at the end of the block."""
    options = ["--logdir", str(run_dir), "--port", str(port), f"--load_fast={str(fast).lower()}"]
    process = spawn([sys.executable, "-m", "trainer.board", *options], os.environ, output=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def wait_for_page(port: int, *, host: str = "127.0.0.1") -> None:
    """Waits until TensorBoard answers."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{host}:{port}", timeout=10):
            return
        time.sleep(0.25)
    raise AssertionError(f"TensorBoard on port {port} does not answer")


def scalars(port: int, run: str, tag: str, *, at_least: int) -> list[tuple[int, float]]:
    """The (step, value) pairs of a tag, as soon as TensorBoard shows `at_least` that many."""
    url = f"http://127.0.0.1:{port}/data/plugin/scalars/scalars?tag={tag}&run={run}"
    deadline = time.monotonic() + 60
    points: list[Any] = []
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, urllib.error.URLError, json.JSONDecodeError):
            with urllib.request.urlopen(url, timeout=10) as response:
                points = json.load(response)
            if len(points) >= at_least:
                return [(step, value) for _, step, value in points]
        time.sleep(0.25)
    raise AssertionError(f"TensorBoard on port {port} shows {len(points)} points of {run}/{tag}, expected {at_least}")


class ProfilePage:
    """The page for profiles of a TensorBoard."""

    def __init__(self, port: int, *, host: str = "127.0.0.1") -> None:
        self.port, self._host = port, host

    def ask(self, path: str, *, method: str = "GET") -> tuple[int, str]:
        """The status and the body, unpacked."""
        connection = http.client.HTTPConnection(self._host, self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path)
            answer = connection.getresponse()
            body = answer.read()
        return answer.status, (
            gzip.decompress(body) if answer.getheader("Content-Encoding") == "gzip" else body
        ).decode()

    def get(self, path: str, *, method: str = "GET", **query: str) -> tuple[int, str]:
        """What the page for profiles answers."""
        return self.ask(f"/data/plugin/profile{path}?{urllib.parse.urlencode(query)}", method=method)

    def json(self, path: str, **query: str) -> Any:
        status, text = self.get(path, **query)
        assert status == 200, text
        return json.loads(text)

    def is_active(self) -> bool:
        return bool(self.listed()["profile"]["enabled"])

    def listed(self) -> dict[str, Any]:
        """TensorBoard's pages."""
        return dict(json.loads(self.ask("/data/plugins_listing")[1]))
