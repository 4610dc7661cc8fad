"""Real object stores and bad networks, started on 127.0.0.1."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tests.support.servers.refusing_proxy import refusing_proxy
from tests.tools import tool
from trainer.core.free_ports import free_ports

BUCKET = "bucket"
KEY_ID, SECRET = "made-up-id", "made-up-secret-aGVsbG8"


@contextlib.contextmanager
def started(
    *command: str | Path, port: int, environ: dict[str, str] | None = None, seconds: float = 30.0
) -> Iterator[subprocess.Popen[bytes]]:
    """A server process, from when it listens to the end of the block."""
    process = subprocess.Popen(
        [str(part) for part in command],
        env={**os.environ, **(environ or {})},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + seconds
        while True:
            assert process.poll() is None, f"{command[0]} ended with {process.returncode}"
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            assert time.monotonic() < deadline, f"{command[0]} does not listen"
            time.sleep(0.02)
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # With whatever it has started.
        process.wait()


@contextlib.contextmanager
def registry(folder: Path) -> Iterator[str]:
    """HOST:PORT of a registry of images and charts, which it keeps in a folder."""
    (port,) = free_ports(1)
    config = (
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder}/data}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n"
    )
    (folder / "config.yml").write_text(config)
    with started(tool("registry"), "serve", folder / "config.yml", port=port):
        yield f"127.0.0.1:{port}"


@contextlib.contextmanager
def s3_server(folder: Path, *, port: int = 0, modest: bool = False) -> Iterator[str]:
    """The address of a versitygw over a folder with BUCKET in it; a `modest` one runs at the lowest priority."""
    port = port or free_ports(1)[0]
    (folder / BUCKET).mkdir(parents=True, exist_ok=True)
    secrets = {"ROOT_ACCESS_KEY_ID": KEY_ID, "ROOT_SECRET_ACCESS_KEY": SECRET}
    command = (tool("versitygw"), "--port", f"127.0.0.1:{port}", "--quiet", "posix", folder)
    with started(*command, port=port, environ=secrets) as process:
        if modest:
            for thread in os.listdir(f"/proc/{process.pid}/task"):
                os.setpriority(os.PRIO_PROCESS, int(thread), 19)
        yield f"http://127.0.0.1:{port}"


def s3_environ(address: str) -> dict[str, str]:
    """The environment that a program needs to use an S3 server."""
    return {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
    }


@contextlib.contextmanager
def gcs_server(*, port: int = 0, address: str = "") -> Iterator[str]:
    """The address of a fake-gcs-server with BUCKET in it, which tells clients to use `address` (a proxy's) if given."""
    port = port or free_ports(1)[0]
    own = f"http://127.0.0.1:{port}"
    command = (tool("fake-gcs-server"), "-backend", "memory", "-scheme", "http", "-host", "127.0.0.1")
    outside = address or own
    with started(*command, "-port", str(port), "-external-url", outside, "-log-level", "error", port=port):
        request = urllib.request.Request(  # noqa: S310
            f"{own}/storage/v1/b", json.dumps({"name": BUCKET}).encode(), {"Content-Type": "application/json"}
        )
        urllib.request.urlopen(request).close()  # noqa: S310
        with refusing_proxy(own) as (front, proxy):
            proxy.one_by_one = True  # Nothing may come between the check below and the request.

            def guarded(_method: str, path: str) -> tuple[int, bytes] | None:
                """Checks what the emulator does not: a composition's condition on the object that it replaces."""
                match = re.match(r"(/storage/v1/b/[^/]+/o/[^/]+)/compose\?.*ifGenerationMatch=(\d+)", path)
                if match:
                    status, text, _headers = proxy.request("GET", match[1], [("Host", proxy.upstream)])
                    if status != 200 or json.loads(text)["generation"] != match[2]:
                        return 412, b"{}"
                return None

            proxy.answer = guarded
            yield front


class Toxics:
    """What toxiproxy does to the connections through it."""

    def __init__(self, port: int, name: str) -> None:
        self._port, self._name = port, name

    def add(self, kind: str, *, stream: str = "downstream", toxicity: float = 1.0, **attributes: int) -> None:
        """Adds a toxic: latency, bandwidth, slow_close, timeout, reset_peer, limit_data, …"""
        toxic = {"type": kind, "stream": stream, "toxicity": toxicity, "attributes": attributes}
        self._ask("POST", f"/proxies/{self._name}/toxics", toxic)

    def clear(self) -> None:
        """Removes all toxics."""
        self._ask("POST", "/reset", {})

    def enable(self, enabled: bool) -> None:
        """Lets connections through, or refuses them."""
        self._ask("POST", f"/proxies/{self._name}", {"enabled": enabled})

    def _ask(self, method: str, path: str, body: object) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        connection.request(method, path, json.dumps(body), {"User-Agent": "tests"})
        response = connection.getresponse()
        text = response.read()
        connection.close()
        assert response.status < 300, text


@contextlib.contextmanager
def toxiproxy(upstream: str, *, port: int = 0) -> Iterator[tuple[str, Toxics]]:
    """The address of a toxiproxy in front of `upstream` ("http://host:port"), and its toxics."""
    control, free = free_ports(2)
    port = port or free
    with started(tool("toxiproxy"), "-host", "127.0.0.1", "-port", str(control), port=control):
        toxics = Toxics(control, "store")
        proxy = {"name": "store", "listen": f"127.0.0.1:{port}", "upstream": upstream.removeprefix("http://")}
        toxics._ask("POST", "/proxies", {**proxy, "enabled": True})
        yield f"http://127.0.0.1:{port}", toxics
