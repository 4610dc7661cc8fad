"""Parquet files, read at random row by row; the row groups that were used last stay decoded in memory."""

import collections
import functools
import io
import threading
from collections.abc import Iterable, Sequence
from typing import Any, SupportsIndex

from absl import logging

from trainer.core.exit_codes import DataError, TrainerError
from trainer.sources import identity
from trainer.sources.errors import DamagedRecord
from trainer.sources.files import File, each, find, read
from trainer.sources.files.finding import Address
from trainer.sources.formats.columns import Columns, Parse, Spec
from trainer.sources.formats.extras import needed
from trainer.sources.formats.row_groups import Group, RowGroups
from trainer.sources.sequences import Rows, RowSource

NAMES = ("*.parquet", "*.pq")
CACHE_BYTES = 128 * 2**20  # Decoding takes as much and more besides: allocators keep what they had once.
_MODULE = ("pyarrow.parquet", "pyarrow")
_MOST_OPEN = 64  # Files whose footers are kept.


class ParquetRows(RowSource):
    """The rows of Parquet files, as examples."""

    def __init__(
        self,
        where: Address | Sequence[Address],
        *,
        x: Spec = None,
        y: Spec = None,
        weight: Spec = None,
        parse: Parse | None = None,
        names: Iterable[str] = NAMES,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        """Finds the files and reads their footers.

        Args:
          where: a file, a folder, a pattern, or several of these; local paths, gs:// or s3://.
          x: a column; a list of columns of numbers, which become one vector; or a dict or tuple of these.
          y: likewise.
          weight: likewise, or None.
          parse: instead of these, a function that makes an example of a row, a dict by the columns' names.
          names: patterns of the files' names in a folder.
          cache_bytes: of memory for decoded row groups. A row whose group is not there costs decoding the group.

        Raises:
          DataError: there are none, one is no Parquet file, or lacks a column.
          UsageError: pyarrow is not installed.
        """
        needed(*_MODULE)
        self._columns = Columns(x, y, weight, parse)
        self._files = find(where, names=names)
        self._open = _OpenFiles()
        footers = each(self._footer, self._files)
        self._names = self._columns.needed or footers[0][1]
        for file, (_, columns) in zip(self._files, footers, strict=True):
            self._columns.check(columns, file.url)
        self._groups = [Rows([rows for rows, _ in groups]) for groups, _ in footers]
        self._rows = Rows([len(groups) for groups in self._groups])
        self._cache = RowGroups(cache_bytes)
        whole = sum(size for groups, _ in footers for _, size in groups)
        if whole > cache_bytes:
            logging.warning(
                "data: %s and its like hold %d MB, decoded, and cache_bytes=%d keeps %d MB of them in memory: in a "
                "shuffled order most rows cost the decoding of their whole row group; see docs/data.md",
                self._files[0].url,
                whole // 10**6,
                cache_bytes,
                cache_bytes // 10**6,
            )

    def __getitems__(self, indices: Iterable[SupportsIndex]) -> list[Any]:
        """The examples of several rows; each row group is decoded at most once for them.

        Raises:
          DamagedRecord: a row, or the group that it is in, cannot be used.
        """
        places = [self._rows.find(index) for index in indices]
        found: dict[int, Any] = {}
        for at in sorted(range(len(places)), key=places.__getitem__):
            file, row = places[at]
            number, inner = self._groups[file].find(row)
            group = self._cache.get((file, number), functools.partial(self._decoded, file, number))
            found[at] = self._columns.example(group, inner, self._names, self._files[file].url, row)
        return [found[at] for at in range(len(places))]

    def identity(self) -> dict[str, Any]:
        """What a resume compares."""
        return identity.of_files("ParquetRows", self._files, len(self), **self._columns.described())

    def _decoded(self, file: int, number: int) -> Group:
        try:
            table = self._open.read(self._files[file], number, self._names)
        except TrainerError:
            raise
        except (OSError, ValueError, KeyError) as error:  # Arrow's errors are among these.
            first = self._groups[file].first(number)
            reason = f"the row group that begins with it cannot be decoded: {str(error).partition(chr(10))[0]}"
            raise DamagedRecord(self._files[file].url, first, reason, unit="row") from None
        return self._columns.group(table)

    def _footer(self, file: File) -> tuple[list[tuple[int, int]], list[str]]:
        """Rows and decoded bytes of each row group, and the columns' names."""
        metadata, names = self._open.footer(file)
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        return [(group.num_rows, group.total_byte_size) for group in groups], names


class _OpenFiles:
    """Files with their footers, of which each is read by one thread at a time."""

    def __init__(self) -> None:
        self._kept: collections.OrderedDict[File, tuple[Any, threading.Lock]] = collections.OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        """Without what is open: it is opened again in the process that this goes to."""
        return _OpenFiles, ()

    def footer(self, file: File) -> tuple[Any, list[str]]:
        opened, _ = self._opened(file)
        return opened.metadata, list(opened.schema_arrow.names)

    def read(self, file: File, group: int, columns: Sequence[str]) -> Any:
        opened, turn = self._opened(file)
        with turn:
            return opened.read_row_group(group, columns=list(columns), use_threads=False)

    def _opened(self, file: File) -> tuple[Any, threading.Lock]:
        with self._lock:
            if file in self._kept:
                self._kept.move_to_end(file)
                return self._kept[file]
        try:
            opened = needed(*_MODULE).ParquetFile(_Stream(file), page_checksum_verification=True, pre_buffer=True)
        except TrainerError:
            raise
        except (OSError, ValueError) as error:
            raise DataError(
                f"{file.url} is no whole Parquet file ({str(error).partition('.')[0]}); get it again"
            ) from None
        with self._lock:
            self._kept[file] = opened, threading.Lock()
            if len(self._kept) > _MOST_OPEN:
                self._kept.popitem(last=False)
            return self._kept[file]


class _Stream(io.RawIOBase):
    """A file as Arrow reads one."""

    def __init__(self, file: File) -> None:
        super().__init__()
        self._file, self._at = file, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._file.size}[whence]
        self._at = start + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def size(self) -> int:
        return self._file.size

    def read(self, size: int = -1) -> bytes:
        rest = max(0, self._file.size - self._at)
        data = read(self._file, self._at, rest if size is None or size < 0 else min(size, rest))
        self._at += len(data)
        return data
