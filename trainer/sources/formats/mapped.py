"""A local array that is mapped, not read; its rows take memory only for a while."""

import mmap
import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.core.exit_codes import DataError
from trainer.sources.files import File, find

# What a process has touched of a mapping counts as its memory until it is let go; the system keeps it as long as there
# is room. At each access it maps up to so many pages around.
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
        self._touched, self._lock = 0, threading.Lock()
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
        with self._lock:
            self._touched += len(numbers) * (self._row_bytes + _AROUND_BYTES)
            if self._mapping is not None and self._touched > _LET_GO_BYTES:
                self._touched = 0
                self._mapping.madvise(mmap.MADV_DONTNEED)  # Another thread that reads just now maps its pages again.
        return found
