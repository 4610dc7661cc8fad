"""The framing of TensorBoard's event files (TFRecord), and the one event that a mirror writes itself.

A record is its length (8 bytes, little-endian), a masked CRC-32C of these, its data, and a masked CRC-32C of the data
(tensorflow/core/lib/io/record_writer.h). The mirror's own event is a mark: it says from which file, and from which byte
on, the records behind it were copied. TensorBoard's readers see in it the event that begins an event file, as they have
to, and pass over the field that they do not know.
"""

import dataclasses
import json
import struct
from collections.abc import Iterator
from typing import Self

import google_crc32c

from trainer.core.exit_codes import DataError

HEAD = struct.Struct("<QI")  # Length and its checksum.
TAIL = struct.Struct("<I")  # Checksum of the data.
OVERHEAD = HEAD.size + TAIL.size

# Behind Event.wall_time: Event.file_version (field 3), then a field of our own (1000), whose length is to follow.
_MARK = b"\x1a\x0dbrain.Event:2" + b"\xc2\x3e"


def record(data: bytes) -> bytes:
    """Frames `data`."""
    length = struct.pack("<Q", len(data))
    return length + TAIL.pack(_masked(length)) + data + TAIL.pack(_masked(data))


def size_of_first(data: bytes) -> int:
    """The bytes that the record at the start of `data` takes, all told; 0 when its head is not whole.

    Raises:
      DataError: there is something else than a record.
    """
    if len(data) < HEAD.size:
        return 0
    length, checksum = HEAD.unpack_from(data)
    if checksum != _masked(data[:8]):
        raise DataError("a record's length does not have its checksum")
    return int(length) + OVERHEAD


def whole(data: bytes) -> list[int]:
    """Where the whole records at the start of `data` end, in order.

    Raises:
      DataError: the first record is damaged. Behind a whole one, a damaged record ends the list instead.
    """
    ends: list[int] = []
    start = 0
    try:
        while (size := size_of_first(data[start : start + HEAD.size])) and start + size <= len(data):
            body = data[start + HEAD.size : start + size - TAIL.size]
            if TAIL.unpack_from(data, start + size - TAIL.size)[0] != _masked(body):
                raise DataError("a record's data do not have their checksum")
            start += size
            ends.append(start)
    except DataError:
        if not ends:
            raise
    return ends


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mark:
    """Says whose the records behind it are, and which bytes of which file."""

    owner: str  # Of the mirror that wrote it, unlike any other's.
    source: str  # The file's name; empty before the first.
    offset: int  # Of the first byte behind the mark, in the file.

    def event(self, wall_time: float) -> bytes:
        """The mark as a framed Event (tensorflow/core/util/event.proto)."""
        text = json.dumps(dataclasses.asdict(self), separators=(",", ":")).encode()
        return record(b"\x09" + struct.pack("<d", wall_time) + _MARK + _varint(len(text)) + text)

    @classmethod
    def parse(cls, data: bytes) -> Self | None:
        """Reads a record's data; None when it is another event than a mark."""
        if data[9 : 9 + len(_MARK)] != _MARK:
            return None
        start = 9 + len(_MARK)
        while data[start] > 127:  # The length, which may be any number.
            start += 1
        return cls(**json.loads(data[start + 1 :]))


def parts(segment: bytes) -> Iterator[tuple[Mark, bytes]]:
    """Takes a mirrored segment apart: each mark with the records behind it, as they stood in its file.

    Raises:
      DataError: the segment does not begin with a mark.
    """
    mark: Mark | None = None
    begin = start = 0
    for end in whole(segment):
        found = Mark.parse(segment[start + HEAD.size : end - TAIL.size])
        if found:
            if mark:
                yield mark, segment[begin:start]
            mark, begin = found, end
        start = end
    if mark is None:
        raise DataError("it does not begin as a segment that a mirror wrote")
    yield mark, segment[begin:start]


def _masked(data: bytes) -> int:
    checksum: int = google_crc32c.value(data)
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _varint(number: int) -> bytes:
    text = bytearray()
    while number > 127:
        text.append(number & 127 | 128)
        number >>= 7
    return bytes([*text, number])
