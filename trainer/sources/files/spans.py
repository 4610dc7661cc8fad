"""Ranges of files, joined where they lie near each other and cut where they are long: what becomes a request."""

import bisect
import dataclasses
from collections.abc import Iterable, Mapping

from trainer.sources.files.file import File


@dataclasses.dataclass(frozen=True, slots=True)
class Span:
    """The bytes of a file from `start` to before `end`."""

    file: File
    start: int
    end: int


def requests(spans: Iterable[Span], *, gap: int, most: int) -> list[Span]:
    """Few spans that hold all of the given ones.

    Args:
      spans: in any order; they may overlap.
      gap: bytes between two that are read along rather than asked for apart.
      most: bytes that one of the result may have.
    """
    found: list[Span] = []
    for span in sorted(spans, key=lambda span: (span.file.url, span.start, span.end)):
        last = found[-1] if found else None
        if last and last.file == span.file and span.start - last.end <= gap and span.end - last.start <= most:
            found[-1] = Span(last.file, last.start, max(last.end, span.end))
        else:
            found.extend(
                Span(span.file, start, min(start + most, span.end)) for start in range(span.start, span.end, most)
            )
    return found


class Pieces:
    """What was read, from which any span within it can be cut."""

    def __init__(self, read: Mapping[Span, bytes]) -> None:
        """Takes spans and their bytes."""
        self._files: dict[File, list[tuple[int, int, bytes]]] = {}
        for span, data in read.items():
            self._files.setdefault(span.file, []).append((span.start, -span.end, data))
        for pieces in self._files.values():
            pieces.sort(key=lambda piece: piece[:2])

    def cut(self, span: Span) -> bytes:
        """The bytes of a span."""
        pieces = self._files.get(span.file, [])
        parts: list[bytes] = []
        at = span.start
        while at < span.end:
            start, data = self._piece(pieces, at)
            part = data[at - start : span.end - start]
            parts.append(part)
            at += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    @staticmethod
    def _piece(pieces: list[tuple[int, int, bytes]], at: int) -> tuple[int, bytes]:
        number = bisect.bisect_right(pieces, at, key=lambda piece: piece[0]) - 1
        while number >= 0:
            start, _, data = pieces[number]
            if at < start + len(data):
                return start, data
            number -= 1
        raise KeyError(f"byte {at} was not read")
