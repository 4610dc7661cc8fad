"""Rows of several files, counted through."""

import abc
import operator
from collections.abc import Iterable, Sequence
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]


class Rows:
    """Which file holds a row, and as which of its own."""

    def __init__(self, lengths: Sequence[int]) -> None:
        """Takes the number of rows of each file."""
        self._ends = np.cumsum(np.asarray(lengths, np.int64)) if len(lengths) else np.zeros(0, np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @property
    def count(self) -> int:
        """How many files there are."""
        return len(self._ends)

    def find(self, index: SupportsIndex) -> tuple[int, int]:
        """File and row in it, both from 0; negative indices count from the end.

        Raises:
          IndexError: there is no such row.
        """
        number = operator.index(index)
        row = number + len(self) if number < 0 else number
        if not 0 <= row < len(self):
            raise IndexError(f"row {number} of {len(self)}")
        file = int(np.searchsorted(self._ends, row, side="right"))
        return file, row - self.first(file)

    def absolute(self, indices: Iterable[SupportsIndex]) -> Numbers:
        """The numbers of rows among all; negative indices count from the end.

        Raises:
          IndexError: there is no such row.
        """
        given = indices if isinstance(indices, np.ndarray) else [operator.index(one) for one in indices]
        numbers = np.asarray(given, np.int64)
        rows = np.where(numbers < 0, numbers + len(self), numbers)
        wrong = (rows < 0) | (rows >= len(self))
        if wrong.any():
            raise IndexError(f"row {numbers[wrong][0]} of {len(self)}")
        return rows

    def find_all(self, indices: Iterable[SupportsIndex]) -> tuple[Numbers, Numbers]:
        """Files and rows in them of many; as `find`."""
        rows = self.absolute(indices)
        files = np.searchsorted(self._ends, rows, side="right")
        return files, rows - np.append(np.int64(0), self._ends)[files]

    def first(self, file: int) -> int:
        """The number of a file's first row among all."""
        return int(self._ends[file - 1]) if file else 0

    def length(self, file: int) -> int:
        """How many rows a file has."""
        return int(self._ends[file]) - self.first(file)


class RowSource(abc.ABC):
    """A source that reads its rows together."""

    _rows: Rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: SupportsIndex) -> Any:
        return self.__getitems__([index])[0]

    @abc.abstractmethod
    def __getitems__(self, indices: Iterable[SupportsIndex]) -> list[Any]:
        """The examples of several rows."""
