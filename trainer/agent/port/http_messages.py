"""HTTP/1.1 as far as an agent's port speaks it: the head of a request, and a whole answer. Nothing is sent here."""

import dataclasses
from collections.abc import Mapping
from typing import Self

LONGEST_HEAD = 1 << 16  # Bytes.
END_OF_HEAD = b"\r\n\r\n"
_ONCE = {"authorization", "content-length", "transfer-encoding"}  # Two of them could be read in two ways.
_REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Head:
    """The head of a request."""

    method: str
    path: str  # Without what stands behind "?".
    headers: Mapping[str, str]  # Names in small letters.
    keeps: bool  # Whether the client may send another request on the same connection.

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Reads what stands before END_OF_HEAD.

        Raises:
          ValueError: it is no head of HTTP/1.0 or 1.1.
        """
        first, *lines = data.decode("latin-1").split("\r\n")
        method, path, version = first.split(" ")
        if version not in ("HTTP/1.1", "HTTP/1.0"):
            raise ValueError("the version is neither HTTP/1.1 nor HTTP/1.0")
        headers: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.partition(":")
            name = name.lower()
            if not colon or not name or name != name.strip() or (name in headers and name in _ONCE):
                raise ValueError("a header is no 'name: value', or stands there twice")
            headers[name] = value.strip(" \t")
        keeps = version == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
        return cls(method=method, path=path.partition("?")[0], headers=headers, keeps=keeps)


def answer(status: int, body: bytes, content_type: str = "text/plain; charset=utf-8", *, keeps: bool = False) -> bytes:
    """A whole answer; `keeps`: the connection stays open."""
    lines = [
        f"HTTP/1.1 {status} {_REASONS[status]}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        *([] if keeps else ["Connection: close"]),
        *(["WWW-Authenticate: Bearer"] if status == 401 else []),
        *(["Allow: GET, POST"] if status == 405 else []),
    ]
    return "\r\n".join(lines).encode() + END_OF_HEAD + body
