"""The framing of TensorBoard's event files, and of shards of data: TFRecord.

A record is its length (8 bytes, little-endian), a masked CRC-32C of these, its data, and a masked CRC-32C of the data
(tensorflow/core/lib/io/record_writer.h).
"""

import struct

import google_crc32c

from trainer.core.exit_codes import DataError

HEAD = struct.Struct("<QI")  # The length of the data and its checksum.
_TAIL = struct.Struct("<I")  # The checksum of the data.
_FRAME = HEAD.size + _TAIL.size


def record(data: bytes) -> bytes:
    """Frames `data`."""
    length = struct.pack("<Q", len(data))
    return length + _TAIL.pack(_masked_crc(length)) + data + _TAIL.pack(_masked_crc(data))


def data_of(framed: bytes) -> bytes:
    """The data in one whole record."""
    return framed[HEAD.size : -_TAIL.size]


def checked_data_of(framed: bytes) -> bytes:
    """The data in what is said to be one whole record, and no more.

    Raises:
      DataError: it is not of the size that its head says, or the data do not have their checksum.
    """
    if len(framed) < _FRAME or HEAD.unpack_from(framed)[0] != len(framed) - _FRAME:
        raise DataError("there is no record of this size")
    data = framed[HEAD.size : -_TAIL.size]
    if _TAIL.unpack_from(framed, len(framed) - _TAIL.size)[0] != _masked_crc(data):
        raise DataError("a record's data do not have their checksum")
    return data


def first_record_size(data: bytes) -> int:
    """The bytes of the record at the start of `data`, framing included; 0 when less than its head is there.

    Raises:
      DataError: `data` does not begin with a record.
    """
    if len(data) < HEAD.size:
        return 0
    length, checksum = HEAD.unpack_from(data)
    if checksum != _masked_crc(data[:8]):
        raise DataError("a record's length does not have its checksum")
    return HEAD.size + int(length) + _TAIL.size


def whole_records(data: bytes) -> list[bytes]:
    """The whole records at the start of `data`, framed, in order.

    Raises:
      DataError: the first record is damaged. A damaged record behind a whole one ends the list instead.
    """
    records: list[bytes] = []
    start = 0
    try:
        while (size := first_record_size(data[start : start + HEAD.size])) and start + size <= len(data):
            framed = data[start : start + size]
            if _TAIL.unpack(framed[-_TAIL.size :])[0] != _masked_crc(data_of(framed)):
                raise DataError("a record's data do not have their checksum")
            records.append(framed)
            start += size
    except DataError:
        if not records:
            raise
    return records


def _masked_crc(data: bytes) -> int:
    checksum: int = google_crc32c.value(data)
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF
