"""The memory that blocks of examples are read into: this process's own, or shared with processes that read.

What was used once is used again: pages that are new cost more than what is written to them.
"""

import collections
import dataclasses
import mmap
import os
import threading
from collections.abc import Callable
from multiprocessing import reduction
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from trainer.training.data.example_reader import ExampleReader, Leaves

_PAGE = mmap.ALLOCATIONGRANULARITY

Bytes = npt.NDArray[np.uint8]


class Lease:
    """Memory in use, as an array of bytes; when nothing uses the array any more, it is free again."""

    def __init__(self, bytes_there: Bytes, give_back: Callable[[], None], *, start: int | None = None) -> None:
        """Takes the bytes, what makes them free, and where they begin in memory that is shared.

        `give_back` takes no lock: it may run in any thread, in the midst of anything.
        """
        self.start, self._give_back, self._bytes = start, give_back, bytes_there
        # An array made of this holds this object, not the bytes alone.
        self.__array_interface__ = {**bytes_there.__array_interface__}

    def __del__(self) -> None:
        self._give_back()


class Memory(Protocol):
    """Gives memory for blocks."""

    def lease(self, size: int) -> Lease:
        """So many bytes, whatever is in them, from the beginning of a page."""


class OwnMemory:
    """Memory that this process alone sees."""

    def __init__(self) -> None:
        """Takes none yet."""
        self._free: dict[int, collections.deque[Bytes]] = collections.defaultdict(collections.deque)  # By size.

    def lease(self, size: int) -> Lease:
        """See `Memory`."""
        free = self._free[size]
        try:
            bytes_there = free.pop()
        except IndexError:
            bytes_there = np.frombuffer(mmap.mmap(-1, max(size, 1)), np.uint8, size)
        return Lease(bytes_there, lambda: free.append(bytes_there))


class SharedMemory:
    """Memory that is seen by each process that is started with this object, too.

    It has no name in /dev/shm, which a container bounds at 64 MiB whatever the limit of its memory is.
    """

    def __init__(self) -> None:
        """Takes none yet."""
        self._file, self._end = os.memfd_create("examples"), 0
        self._free: dict[int, list[int]] = {}  # Where unused parts of a size begin.
        self._mapped: dict[int, Bytes] = {}  # By where they begin.
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"file": reduction.DupFd(self._file)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._file, self._mapped, self._lock = state["file"].detach(), {}, threading.Lock()

    def lease(self, size: int) -> Lease:
        """See `Memory`."""
        size += -size % _PAGE
        with self._lock:
            free = self._free.setdefault(size, [])
            try:
                start = free.pop()
            except IndexError:
                start, self._end = self._end, self._end + size
                os.ftruncate(self._file, self._end)
        return Lease(self.at(start, size), lambda: free.append(start), start=start)

    def at(self, start: int, size: int) -> Bytes:
        """The part that begins there."""
        with self._lock:
            if start not in self._mapped:
                size += -size % _PAGE
                self._mapped[start] = np.frombuffer(mmap.mmap(self._file, size, offset=start), np.uint8)
            return self._mapped[start]


@dataclasses.dataclass(frozen=True)
class Room:
    """Where the examples of a block are written to."""

    leaves: Leaves
    start: int | None = None  # In the shared memory; None: it is this process's own.

    @classmethod
    def of(cls, memory: Memory, reader: ExampleReader, examples: int) -> "Room":
        """Room for so many examples."""
        lease = memory.lease(reader.bytes_of(examples))
        return cls(reader.buffers(examples, np.asarray(lease)), lease.start)

    def part(self, first: int, end: int) -> Leaves:
        """That of some of the examples."""
        return [leaf[first:end] for leaf in self.leaves]
