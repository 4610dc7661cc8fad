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


# Each of these ended an attempt or the run, or crashed an agent or all training processes, when it was believed.
FORGED_REQUESTS: dict[str, Any] = {
    "an end with 64 by a worker that is not": join(999, cause="final", code=64),
    "an end with 64": join(1, cause="final", code=64),
    "an end with 0": join(1, cause="final", code=0),
    "other flags": join(1, flags=["--epochs=9"]),
    "a hold by nobody": hold(99, token=None),
    "a hold with another token": hold(1),
    "half a worker": join(0.5),
    "attempt Infinity": json.dumps(join(1)).replace('"attempt": 0', '"attempt": Infinity').encode(),
    "attempt 10^300": join(1, attempt=10**300),
    "a successor": join(1),
    "lines of its own": join(1, cause="crash", code=1, errors=["boom\nprogress worker=0/2 step=1/0\n\x1b]0;owned\x07"]),
}

# What no agent sends, though it knew the token.
MALFORMED_REQUESTS: dict[str, Any] = {
    "an end with 64 by a worker that is not": join(999, cause="final", code=64),
    "an end with 0": join(1, cause="final", code=0),
    "an end with a code that others may mend": join(1, cause="final", code=75),
    "a crash with 0": join(1, cause="crash", code=0),
    "a hold with null": hold(99, token=None),
    "a hold with an empty token": hold(1, token=""),
    "a hold of attempt true": hold(1, attempt=True),
    "a hold of attempt 0": hold(1, attempt=0),
    "half a worker": join(0.5),
    "worker true": join(True),
    "worker -1": join(-1),
    "worker of text": join("1"),
    "attempt Infinity": FORGED_REQUESTS["attempt Infinity"],
    "attempt NaN": json.dumps(join(1)).replace('"attempt": 0', '"attempt": NaN').encode(),
    "attempt 10^300": join(1, attempt=10**300),
    "attempt of 5000 digits": json.dumps(join(1)).replace('"attempt": 0', '"attempt": 1' + "0" * 5000).encode(),
    "attempt -1": join(1, attempt=-1),
    "an unknown cause": join(1, cause="because"),
    "no cause": join(1, cause=None),
    "a code beyond codes": join(1, cause="crash", code=256),
    "a step of text": join(1, step="7"),
    "errors of text": join(1, errors="boom"),
    "errors of numbers": join(1, errors=[1]),
    "a token of control characters": join(1, token="a\nb"),
    "a long token": join(1, token="t" * 101),
    "no worker at all": {"ask": "meet", "join": {}},
    "no object": {"ask": "meet", "join": [1]},
    "nothing asked": {},
    "another question": {"ask": "stop"},
    "a list": [],
    "null": None,
    "no JSON": b"{",
    "not UTF-8": b"\xff\xfe{}",
    "nested too deeply": b"[" * 40_000,
}
