"""Decoded groups of rows, kept in memory, the least recently used dropped first."""

import collections
import contextlib
import dataclasses
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

_DECODING_BYTES = 64 * 2**20  # Of groups that are decoded at the same time; while they are, each is there twice.


@dataclasses.dataclass(frozen=True)
class Group:
    """Rows that were decoded together."""

    columns: Sequence[Any]  # What examples are made of, arrays or what has `nbytes`; each has an entry a row.
    damaged: Mapping[int, str]  # Rows that cannot be used, and why.

    @property
    def nbytes(self) -> int:
        """About how much memory it takes."""
        return 1000 + sum(
            column.nbytes
            if getattr(column, "dtype", None) != np.object_
            else sum(100 + (len(value) if hasattr(value, "__len__") else 0) for value in column if value is not None)
            for column in self.columns
        )


class RowGroups:
    """A cache that any number of threads may ask; a group that several want at once is decoded once."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes, self._bytes = max_bytes, 0
        self._running, self._largest = 0, 0  # Groups that are decoded just now, and the bytes of the largest so far.
        self._kept: collections.OrderedDict[Hashable, Group] = collections.OrderedDict()
        self._decoding: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()
        self._ended = threading.Condition(self._lock)

    def __reduce__(self) -> tuple[Any, ...]:
        """Empty: what is kept is not sent to other processes."""
        return RowGroups, (self._max_bytes,)

    def has(self, key: Hashable) -> bool:
        """Whether a group is kept; another thread may drop it in the next moment."""
        return key in self._kept

    def get(self, key: Hashable, decode: Callable[[], Group]) -> Group:
        """A group, decoded if it is not kept."""
        with self._lock:
            if (group := self._found(key)) is not None:
                return group
            turn = self._decoding.setdefault(key, threading.Lock())
        with turn:
            with self._lock:
                if (group := self._found(key)) is not None:
                    return group
            try:
                with self._room():
                    group = decode()
                with self._lock:
                    self._largest = max(self._largest, group.nbytes)
                    if (before := self._kept.pop(key, None)) is not None:  # Dropped, and decoded by another meanwhile.
                        self._bytes -= before.nbytes
                    self._kept[key] = group
                    self._bytes += group.nbytes
                    while self._bytes > self._max_bytes and len(self._kept) > 1:
                        self._bytes -= self._kept.popitem(last=False)[1].nbytes
            finally:
                with self._lock:
                    if self._decoding.get(key) is turn:
                        del self._decoding[key]
            return group

    @contextlib.contextmanager
    def _room(self) -> Iterator[None]:
        """Waits where groups are so large that one in each thread would be more than a worker's memory has room for.

        What a group takes is known by those before it: a file tells how many bytes are encoded, which can be few.
        """
        with self._ended:
            while self._running and (not self._largest or self._running >= _DECODING_BYTES // self._largest):
                self._ended.wait()
            self._running += 1
        try:
            yield
        finally:
            with self._ended:
                self._running -= 1
                self._ended.notify_all()

    def _found(self, key: Hashable) -> Group | None:
        if key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key]
