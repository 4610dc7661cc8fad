"""Where the rows of a CSV file are: groups of rows, each of some ten thousand bytes."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.sources.errors import DamagedRecord
from trainer.sources.files import File, read
from trainer.sources.indexes import side_index
from trainer.sources.indexes.side_index import Arrays, Kind
from trainer.sources.sequences import Rows

BLOCK = 4 * 2**20  # Bytes that are read at once.
GROUP_BYTES = 32 * 2**10  # After which a group ends with its row; decoding so much takes about as long as the call.
_NEWLINE, _RETURN = 10, 13


class RowIndex:
    """Where each group of rows of a file lies, and how many it has."""

    def __init__(self, arrays: Arrays) -> None:
        """Takes what `build` returned."""
        self._starts = arrays["starts"]
        self.header_bytes = int(arrays["header"][0])
        self.rows = Rows(arrays["rows"].tolist())

    def place(self, group: int) -> tuple[int, int]:
        """Where a group begins, and its bytes."""
        return int(self._starts[group]), int(self._starts[group + 1] - self._starts[group])


def load(files: Sequence[File], *, quote: str, header: bool) -> list[RowIndex]:
    """The indexes of CSV files, made where there are none.

    Raises:
      DamagedRecord: a file ends within quotes.
    """
    return [RowIndex(arrays) for arrays in side_index.load(files, kind(quote, header))]


def kind(quote: str, header: bool) -> Kind:
    """The index of files with that quote character, and with or without a header."""
    return Kind(f"csv {quote} {header}", functools.partial(build, quote=quote, header=header), _is_sound)


def build(file: File, *, quote: str, header: bool) -> Arrays:
    """Reads the file and finds the rows: lines that are not empty, and do not end within quotes."""
    starts, rows = list[int](), list[int]()
    header_bytes, begin, count, pending = 0, 0, 0, header
    for ends, empty in _lines(file, quote):
        if pending and not empty.all():
            first = int(np.argmin(empty))  # Empty lines may stand before the header.
            header_bytes = begin = int(ends[first])
            ends, empty, pending = ends[first + 1 :], empty[first + 1 :], False
        if pending:
            continue
        while len(ends):
            cut = int(np.searchsorted(ends, begin + GROUP_BYTES))  # The line that fills the group.
            taken = min(cut + 1, len(ends))
            count += taken - int(np.count_nonzero(empty[:taken]))
            if cut < len(ends):
                starts.append(begin)
                rows.append(count)
                begin, count = int(ends[cut]), 0
            ends, empty = ends[taken:], empty[taken:]
    if count:
        starts.append(begin)
        rows.append(count)
    return {
        "starts": np.asarray([*starts, file.size], np.uint64),
        "rows": np.asarray(rows, np.uint32),
        "header": np.asarray([header_bytes], np.uint64),
    }


def _is_sound(arrays: Arrays, file: File) -> bool:
    if arrays.keys() != {"starts", "rows", "header"} or len(arrays["header"]) != 1:
        return False
    starts, rows = arrays["starts"], arrays["rows"]
    # A file without rows has one place, its end.
    return int(arrays["header"][0]) <= file.size and side_index.cut_up(starts, len(rows), file.size)


def line_ends(data: bytes, quote: str) -> list[int]:
    """Where the lines of whole rows end; each includes its line break."""
    block = np.frombuffer(data, np.uint8)
    ends = (np.flatnonzero(_is_end(block, quote, False)[0]) + 1).tolist()
    return ends if ends and ends[-1] == len(data) else [*ends, len(data)]


def _lines(file: File, quote: str) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]]:
    """Of each block of the file: where its lines end, from the start of the file, and which of them are empty."""
    inside, last_end, before = False, 0, 0
    for at in range(0, file.size, BLOCK):
        block = np.frombuffer(read(file, at, min(BLOCK, file.size - at)), np.uint8)
        is_end, inside = _is_end(block, quote, inside)
        ends = np.flatnonzero(is_end) + at + 1
        if at + len(block) == file.size:
            if inside:
                raise DamagedRecord(
                    file.url,
                    last_end if not len(ends) else int(ends[-1]),
                    f"the file ends within quotes ({quote}) that a row from here on opens; where {quote} is no quote, "
                    "give quote=''",
                )
            if block[-1] != _NEWLINE:
                ends = np.append(ends, file.size + 1)  # As if its line break were there.
        lengths = np.diff(ends, prepend=last_end) - 1
        previous = np.append(np.asarray([before], np.uint8), block)[np.minimum(ends - 1 - at, len(block))]
        yield np.minimum(ends, file.size), (lengths == 0) | ((lengths == 1) & (previous == _RETURN))
        last_end, before = int(ends[-1]) if len(ends) else last_end, int(block[-1])


def _is_end(block: npt.NDArray[np.uint8], quote: str, inside: bool) -> tuple[Any, bool]:
    """Which bytes end a line, and whether the block ends within quotes."""
    is_end = block == _NEWLINE
    quotes = block == ord(quote) if quote else np.zeros(0, np.bool_)
    if inside or quotes.any():
        # Quotes within quotes are doubled, so that the number of quotes before a byte says whether it is inside; of the
        # number its lowest bit.
        number = np.cumsum(quotes, dtype=np.uint8) + np.uint8(inside)
        is_end &= (number & 1) == 0
        inside = bool(number[-1] & 1)
    return is_end, inside
