"""What a stranger sends to an agent's port, byte by byte if need be."""

import contextlib
import json
import socket
import time
from collections.abc import Iterator, Sequence
from typing import Any

from tests.support.agents import TOKEN

FORGED = "forged"  # What an agent is called that is none.


def message(body: Any, *, token: str | None = TOKEN, path: str = "/rendezvous", **headers: str) -> bytes:
    """A POST as agents send it; `body` is JSON, or bytes as they are, and headers replace those of the same name."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {"Host": "x", "Content-Length": str(len(data))} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    if token is not None:
        fields["Authorization"] = f"Bearer {token}"
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + data


def status(port: int, sent: bytes, *, host: str = "127.0.0.1") -> int:
    """The status of the answer to what was sent; 0: none came within 5 s, the request is held."""
    with connected(port, host=host) as connection:
        with contextlib.suppress(ConnectionError):  # It may be answered before it is sent whole.
            connection.sendall(sent)
        connection.settimeout(5)
        try:
            line = connection.recv(100)
        except TimeoutError:
            return 0
    return int(line.split()[1]) if line.startswith(b"HTTP/1.") else -1


@contextlib.contextmanager
def connected(port: int, *, host: str = "127.0.0.1") -> Iterator[socket.socket]:
    """A connection to an agent's port."""
    with socket.create_connection((host, port), timeout=30) as connection:
        yield connection


def seconds_until_closed(connection: socket.socket, most: float) -> float:
    """How long it takes until the other end closes a connection."""
    began = time.monotonic()
    connection.settimeout(most)
    with contextlib.suppress(ConnectionError):
        while connection.recv(1 << 16):
            pass
    return time.monotonic() - began


def join(
    index: Any = 1, *, cause: Any = "new", token: Any = FORGED, flags: Sequence[str] = (), **ended: Any
) -> dict[str, Any]:
    """A request to join a run of two."""
    how = {"cause": cause, "attempt": 0, "code": 0, "step": 0, "errors": [], **ended}
    asks = {"index": index, "workers": 2, "token": token, "ended": how, "flags": list(flags)}
    return {"ask": "meet", "join": asks}


def hold(index: Any = 1, *, token: Any = FORGED, attempt: Any = 1) -> dict[str, Any]:
    """A request to hold on to an attempt."""
    return {"ask": "hold", "index": index, "token": token, "attempt": attempt}
