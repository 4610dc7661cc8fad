"""ArrayRecord shards, through the package array_record, which reads files of this machine only."""

import collections
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, SupportsIndex

from trainer.core.exit_codes import DataError, UsageError
from trainer.sources import identity
from trainer.sources.errors import DamagedRecord, parsed
from trainer.sources.files import File, each, find
from trainer.sources.files.finding import Address
from trainer.sources.formats.extras import needed
from trainer.sources.sequences import Rows, RowSource

NAMES = ("*.array_record*", "*.arrayrecord*")
_MODULE = ("array_record.python.array_record_module", "array-record")
_MOST_OPEN = 128  # Shards.


class ArrayRecords(RowSource):
    """The records of ArrayRecord shards, each made an example by a function."""

    def __init__(
        self,
        where: Address | Sequence[Address],
        parse: Callable[[bytes], Any],
        *,
        names: Iterable[str] = NAMES,
    ) -> None:
        """Finds the shards and reads their footers.

        Args:
          where: a shard, a folder, a pattern, or several of these: local or mounted.
          parse: makes an example, (x, y) or (x, y, weight), of a record. It is called in many threads. A DataError that
            it raises marks the record as damaged.
          names: patterns of the shards' names in a folder.

        Raises:
          DataError: there are none, or one is damaged.
          UsageError: the package array_record is not installed, or the shards are in a bucket.
        """
        needed(*_MODULE)
        self._files = find(where, names=names)
        for file in self._files:
            if not file.is_local:
                raise UsageError(
                    f"{file.url}: the package array_record reads no buckets; mount it (docs/data.md), copy it, or use "
                    "TFRecord shards"
                )
        self._parse = parse
        self._open = _OpenShards()
        self._rows = Rows(each(lambda file: int(self._open.shard(file).num_records()), self._files))

    def __getitems__(self, indices: Iterable[SupportsIndex]) -> list[Any]:
        """The examples of several records, read together.

        Raises:
          DamagedRecord: one cannot be read, or `parse` finds it damaged.
        """
        places = [self._rows.find(index) for index in indices]
        by_file: dict[int, list[int]] = {}
        for number, row in places:
            by_file.setdefault(number, []).append(row)
        found = {
            (number, row): record
            for number, rows in by_file.items()
            for row, record in zip(rows, self._read(self._files[number], rows), strict=True)
        }
        return [
            parsed(self._parse, found[number, row], self._files[number].url, row, unit="record")
            for number, row in places
        ]

    def identity(self) -> dict[str, Any]:
        """What a resume compares."""
        return identity.of_files("ArrayRecords", self._files, len(self))

    def _read(self, file: File, rows: list[int]) -> list[bytes]:
        shard = self._open.shard(file)
        try:
            records: list[bytes] = shard.read(rows)
        except (RuntimeError, IndexError, ValueError) as error:
            if len(rows) > 1:
                return [record for row in rows for record in self._read(file, [row])]
            reason = str(error).replace("\n", " ").partition(";")[0]
            raise DamagedRecord(file.url, rows[0], reason or "it cannot be read", unit="record") from None
        return records


class _OpenShards:
    """The package's readers of some shards, which any number of threads may share."""

    def __init__(self) -> None:
        self._kept: collections.OrderedDict[File, Any] = collections.OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        """Without what is open: it is opened again in the process that this goes to."""
        return _OpenShards, ()

    def shard(self, file: File) -> Any:
        with self._lock:
            if file in self._kept:
                self._kept.move_to_end(file)
                return self._kept[file]
        (now,) = find(file.url)
        if now != file:
            raise DataError(f"{file.url} was changed since this run looked at it first; data must stay as they are")
        opened = needed(*_MODULE).ArrayRecordReader(file.url)
        if not opened.ok():  # It does not raise: of what it cannot open it says that it has no records.
            raise DataError(f"{file.url} is no whole ArrayRecord shard; get it again")
        with self._lock:
            self._kept[file] = opened
            if len(self._kept) > _MOST_OPEN:
                self._kept.popitem(last=False)
        return opened
