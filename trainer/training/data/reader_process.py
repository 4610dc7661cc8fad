"""Processes that read a source beside the training process, into memory that it sees, too.

Such a process imports this module and the source's own, and no TensorFlow.
"""

import dataclasses
import mmap
import multiprocessing
import os
import pickle
import threading
from multiprocessing import reduction
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.core.exit_codes import UsageError
from trainer.core.safe_text import one_line
from trainer.sources import files
from trainer.training.data.example_reader import ExampleReader, Leaves
from trainer.training.data.order import Rows


class Lease:
    """A part of shared memory in use, as an array of bytes; when nothing uses the array any more, it is free again."""

    def __init__(self, start: int, bytes_there: npt.NDArray[np.uint8], free: list[int]) -> None:
        """Takes where it begins, its bytes, and the list that it goes back to."""
        self.start, self._free, self._bytes = start, free, bytes_there
        # An array made of this holds this object, not the bytes alone.
        self.__array_interface__ = {**bytes_there.__array_interface__}

    def __del__(self) -> None:
        self._free.append(self.start)  # No lock: this may run in any thread, in the midst of anything.


class SharedMemory:
    """Memory for blocks of examples, which is seen by each process that is started with this object, too.

    It has no name in /dev/shm, which a container bounds at 64 MiB whatever the limit of its memory is. What was used
    once is used again: pages that are new cost more than what is written to them.
    """

    def __init__(self) -> None:
        """Takes none yet."""
        self._file, self._end = os.memfd_create("examples"), 0
        self._free: dict[int, list[int]] = {}  # Where unused parts of a size begin.
        self._mapped: dict[int, npt.NDArray[np.uint8]] = {}  # By where they begin.
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"file": reduction.DupFd(self._file)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._file, self._mapped, self._lock = state["file"].detach(), {}, threading.Lock()

    def lease(self, size: int) -> Lease:
        """A part of so many bytes, whatever is in them."""
        size += -size % mmap.ALLOCATIONGRANULARITY
        with self._lock:
            free = self._free.setdefault(size, [])
            try:
                start = free.pop()
            except IndexError:
                start, self._end = self._end, self._end + size
                os.ftruncate(self._file, self._end)
        return Lease(start, self.at(start, size), free)

    def at(self, start: int, size: int) -> npt.NDArray[np.uint8]:
        """The part that begins there."""
        with self._lock:
            if start not in self._mapped:
                size += -size % mmap.ALLOCATIONGRANULARITY
                self._mapped[start] = np.frombuffer(mmap.mmap(self._file, size, offset=start), np.uint8)
            return self._mapped[start]


@dataclasses.dataclass(frozen=True)
class Room:
    """Where the examples of a block are written to."""

    leaves: Leaves
    start: int | None = None  # In the shared memory; None: it is this process's own.

    def part(self, first: int, end: int) -> Leaves:
        """That of some of the examples."""
        return [leaf[first:end] for leaf in self.leaves]


@dataclasses.dataclass(frozen=True)
class Part:
    """What a process is asked to write to."""

    start: int  # Of the block's room, in the shared memory.
    examples: int  # That it has room for.
    first: int  # The example from which on this process writes.


def shared_room(reader: ExampleReader, memory: SharedMemory, examples: int) -> Room:
    """Room for so many examples that a process can write to."""
    lease = memory.lease(reader.bytes_of(examples))
    return Room(reader.buffers(examples, np.asarray(lease)), lease.start)


class _Process:
    """What a process that reads was given."""

    reader: ExampleReader
    memory: SharedMemory
    failure: str = ""


def begin(content: bytes, memory: SharedMemory, cache: str, cache_bytes: int) -> None:
    """In a process that reads: takes what reads and where to, and ends with the process that trains."""
    parent = multiprocessing.parent_process()

    def leave_with_it() -> None:
        if parent is not None:
            parent.join()
            os._exit(0)

    threading.Thread(target=leave_with_it, name="parent", daemon=True).start()
    files.use_cache(cache or None, cache_bytes)
    _Process.memory = memory
    try:
        _Process.reader = pickle.loads(content)  # noqa: S301  Made by the process that trains.
    except Exception as error:  # Raised here it would end this process, and nobody would be told why.
        _Process.failure = f"{type(error).__name__}: {error}"


def read(rows: Rows, epoch_seed: int, part: Part) -> dict[int, str]:
    """In a process that reads: `ExampleReader.read`; returns what was damaged.

    Raises:
      UsageError: the source could not be opened here.
    """
    if _Process.failure:
        raise UsageError(
            f"a process of --reader_processes cannot take the source ({one_line(_Process.failure)}); let its class be "
            "of a module that every process can import, and open files when they are first read"
        )
    reader = _Process.reader
    room = Room(reader.buffers(part.examples, _Process.memory.at(part.start, reader.bytes_of(part.examples))))
    return reader.read(rows, epoch_seed, room.part(part.first, part.first + len(rows))).damaged
