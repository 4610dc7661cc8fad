"""What processes that read a source beside the training process do: they write into memory that it sees, too.

Such a process imports this module and the source's own, and no TensorFlow.
"""

import dataclasses
import multiprocessing
import os
import pickle
import threading

from trainer.core.exit_codes import UsageError
from trainer.core.safe_text import one_line
from trainer.sources import files
from trainer.training.data.block_memory import Room, SharedMemory
from trainer.training.data.example_reader import ExampleReader
from trainer.training.data.order import Rows


@dataclasses.dataclass(frozen=True)
class Part:
    """What a process is asked to write to."""

    start: int  # Of the block's room, in the shared memory.
    examples: int  # That it has room for.
    first: int  # The example from which on this process writes.


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
