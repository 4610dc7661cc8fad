"""A local array that is mapped, not read; its rows take memory only for a while."""

import mmap
import threading
import weakref
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from trainer.core.exit_codes import DataError
from trainer.sources.files import File, find

# What a process has touched of its mappings counts as its memory until it is let go; the system keeps it as long as
# there is room. At each access it maps up to so many bytes around. What is small stays mapped: to map it anew takes
# longer than to read from it.
_LET_GO_BYTES = 128 * 2**20
_AROUND_BYTES = 64 * 2**10


class MappedRows:
    """The rows of an array in a file."""

    def __init__(self, file: File, start: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        """Maps the file.

        Args:
          file: with the array.
          start: where the array begins.
          shape: of which the first dimension counts rows.
          dtype: of the array.

        Raises:
          DataError: the file cannot be mapped, or was changed.
        """
        (now,) = find(file.url)
        if now != file:
            raise DataError(f"{file.url} was changed since this run looked at it first; data must stay as they are")
        self._row_bytes = dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
        self._touched = 0  # Bytes, at most.
        self._mapping: mmap.mmap | None = None
        if not self._row_bytes * shape[0]:
            self._rows: npt.NDArray[Any] = np.zeros(shape, dtype)
            return
        try:
            with open(file.url, "rb") as opened:
                self._mapping = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise DataError(f"{file.url} cannot be mapped: {error}") from None
        self._mapping.madvise(mmap.MADV_RANDOM)  # A row is not to bring along what lies around it on the disk.
        self._rows = np.ndarray(shape, dtype, self._mapping, start)

    def take(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """A copy of some rows."""
        found: npt.NDArray[Any] = self._rows[numbers]
        if self._mapping is not None:
            _Mapped.touch(self, len(numbers) * (self._row_bytes + _AROUND_BYTES))
        return found

    def touch(self, size: int) -> int:
        """Notes that so many bytes were touched at most; returns how many of them may be new."""
        assert self._mapping is not None  # noqa: S101
        new = min(size, len(self._mapping) - self._touched)
        self._touched += new
        return new

    def let_go(self) -> None:
        """Lets its pages go; another thread that reads just now maps them again."""
        assert self._mapping is not None  # noqa: S101
        self._touched = 0
        self._mapping.madvise(mmap.MADV_DONTNEED)


class _Mapped:
    """All that is mapped in this process."""

    rows: ClassVar["weakref.WeakSet[MappedRows]"] = weakref.WeakSet()
    touched = 0  # Bytes of it, at most.
    lock = threading.Lock()

    @classmethod
    def touch(cls, touched: MappedRows, size: int) -> None:
        with cls.lock:
            cls.rows.add(touched)
            cls.touched += touched.touch(size)
            if cls.touched > _LET_GO_BYTES:
                cls.touched = 0
                for rows in cls.rows:
                    rows.let_go()
