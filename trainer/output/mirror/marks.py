"""The marks in a mirrored segment: events that say from which file, and which byte of it, the next records were copied.

A mark is the one event that a mirror writes itself. TensorBoard reads it as the event that begins every event file
(`file_version`) and passes over the field that it does not know.
"""

import dataclasses
import json
import struct
from collections.abc import Iterator
from typing import Self

from trainer.core import protobuf, typed_json
from trainer.core.exit_codes import DataError
from trainer.core.run_dir import is_event_file
from trainer.core.safe_text import one_line
from trainer.core.tfrecord import data_of, record, whole_records

# An Event of TensorFlow's (tensorflow/core/util/event.proto) begins with wall_time: a tag and a double, 9 bytes.
_WALL_TIME_TAG, _WALL_TIME_SIZE = b"\x09", 9
# A mark goes on with file_version (field 3) and a field of the mirror's own (1000): a length and that much JSON.
_MARK_TAG = b"\x1a\x0dbrain.Event:2" + b"\xc2\x3e"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mark:
    """Says who copied the records behind it, and from where."""

    owner: str  # The mirror that wrote it; no two mirrors have the same.
    source: str  # The name of the file; empty before the first file.
    offset: int  # The byte in the file at which the records behind the mark begin.

    def event(self, wall_time: float) -> bytes:
        """The mark as a framed event, dated in seconds since 1970."""
        text = json.dumps(dataclasses.asdict(self), separators=(",", ":")).encode()
        return record(_WALL_TIME_TAG + struct.pack("<d", wall_time) + _MARK_TAG + protobuf.varint(len(text)) + text)

    @classmethod
    def parse(cls, event: bytes) -> Self | None:
        """Reads an event; None when it is another one than a mark.

        Raises:
          DataError: no mirror wrote that. Whoever can write the bucket must not choose which file is written here.
        """
        if event[_WALL_TIME_SIZE : _WALL_TIME_SIZE + len(_MARK_TAG)] != _MARK_TAG:
            return None
        start = _WALL_TIME_SIZE + len(_MARK_TAG)
        while event[start : start + 1] > b"\x7f":  # All bytes of a varint but its last have the high bit set.
            start += 1
        try:
            value = typed_json.an_object(typed_json.loads(event[start + 1 :]), "a mark")
            mark = cls(
                owner=typed_json.text(value, "owner"),
                source=typed_json.text(value, "source"),
                offset=typed_json.whole(value, "offset"),
            )
        except ValueError as error:
            raise DataError(f"a mark in it is none that a mirror wrote: {error}") from None
        if not is_event_file(mark.source) and (mark.source or mark.offset):
            raise DataError(f"a mark in it names {one_line(ascii(mark.source), 100)}, which is no event file's name")
        return mark


def marked_parts(segment: bytes) -> Iterator[tuple[Mark, bytes]]:
    """Takes a mirrored segment apart: each mark, with the records behind it as they stood in their file.

    Raises:
      DataError: the segment does not begin with a mark, or has one that no mirror wrote.
    """
    mark: Mark | None = None
    records: list[bytes] = []
    for framed in whole_records(segment):
        if next_mark := Mark.parse(data_of(framed)):
            if mark:
                yield mark, b"".join(records)
            mark, records = next_mark, []
        else:
            records.append(framed)
    if mark is None:
        raise DataError("it does not begin as a segment that a mirror wrote")
    yield mark, b"".join(records)


def end_position(segment: bytes) -> tuple[str, int]:
    """The file, and the byte in it, up to which a segment holds what was written; ("", 0) when it holds nothing.

    Raises:
      DataError: it is no segment of a mirror.
    """
    source, offset = "", 0
    if segment:
        for mark, records in marked_parts(segment):
            source, offset = mark.source, mark.offset + len(records)
    return source, offset
