"""Where the records of a TFRecord shard begin. Only their heads are looked at."""

import array
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from trainer.core import tfrecord
from trainer.core.exit_codes import DataError, UsageError
from trainer.sources.errors import DamagedRecord
from trainer.sources.files import File, read
from trainer.sources.indexes import side_index
from trainer.sources.indexes.side_index import Arrays, Kind

BLOCK = 4 * 2**20  # Bytes that are read at once.
# Bytes of a record that are rather left out than read along: they take as long as a request for the next head.
_LARGE_LOCAL, _LARGE_FAR = 32 * 2**10, 2 * 2**20
_TAIL = 4
_COMPRESSED = {b"\x1f\x8b": "GZIP", b"\x78\x01": "ZLIB", b"\x78\x5e": "ZLIB", b"\x78\x9c": "ZLIB", b"\x78\xda": "ZLIB"}


class RecordIndex:
    """Where each record of a shard lies."""

    def __init__(self, arrays: Arrays) -> None:
        """Takes what `build` returned."""
        self._starts = arrays.get("starts")
        self._count, self._size = (int(number) for number in arrays["uniform"])

    def __len__(self) -> int:
        return self._count

    def places(self, numbers: npt.NDArray[np.int64]) -> tuple[list[int], list[int]]:
        """Where records begin, and their bytes, framing included."""
        if self._starts is None:
            return (numbers * self._size).tolist(), [self._size] * len(numbers)
        starts = self._starts[numbers]
        return starts.tolist(), (self._starts[numbers + 1] - starts).tolist()


def load(files: Sequence[File]) -> list[RecordIndex]:
    """The indexes of shards, made where there are none.

    Raises:
      DamagedRecord: a shard's framing is damaged, so that what follows cannot be found.
      UsageError: a shard is compressed.
    """
    return [RecordIndex(arrays) for arrays in side_index.load(files, KIND)]


def build(file: File) -> Arrays:
    """Looks at the head of each record of a shard. Records of one size take no memory, others 8 bytes each."""
    starts = array.array("Q")
    large = _LARGE_LOCAL if file.is_local else _LARGE_FAR
    at, block, base, size = 0, b"", 0, 0
    smallest, largest = file.size, 0
    while at < file.size:
        if not base <= at <= base + len(block) - tfrecord.HEAD.size:
            # After a large record the head of the next alone: what is between two heads is not looked at.
            base, block = at, read(file, at, min(tfrecord.HEAD.size if size >= large else BLOCK, file.size - at))
        size = _record_size(file, at, block[at - base : at - base + tfrecord.HEAD.size])
        if at + size > file.size:
            raise DamagedRecord(
                file.url, at, f"the file ends {at + size - file.size} bytes before the record does; get it again"
            )
        starts.append(at)
        at += size
        smallest, largest = min(size, smallest), max(size, largest)
    count = len(starts)
    starts.append(at)
    if smallest == largest or not count:
        return {"uniform": np.asarray([count, largest], np.uint64)}
    return {"uniform": np.asarray([count, 0], np.uint64), "starts": np.frombuffer(starts, np.uint64)}


def _record_size(file: File, at: int, head: bytes) -> int:
    compression = _COMPRESSED.get(head[:2]) if at == 0 else None
    try:
        size = tfrecord.first_record_size(head)
    except DataError as error:
        if compression:
            raise UsageError(
                f"{file.url} is compressed ({compression}), and no record of it can be read without all before it; "
                "write it anew without compression (compression_type=None), and compress what is in the records"
            ) from None
        raise DamagedRecord(
            file.url, at, f"{error}, so what follows cannot be found; get the file again, if it is one of TFRecords"
        ) from None
    if not size:
        raise DamagedRecord(file.url, at, "the file ends within a record's head; get it again")
    return size


def _is_sound(arrays: Arrays, file: File) -> bool:
    uniform, starts = arrays.get("uniform"), arrays.get("starts")
    if uniform is None or len(uniform) != 2 or not arrays.keys() <= {"uniform", "starts"}:
        return False
    count, size = (int(number) for number in uniform)
    if starts is None:
        return count * size == file.size and (size > 0 or count == 0)
    return int(starts[:1].sum()) == 0 and side_index.cut_up(starts, count, file.size)


KIND = Kind("tfrecord", build, _is_sound)
