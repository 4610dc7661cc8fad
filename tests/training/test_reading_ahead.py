"""How blocks are read ahead: what is begun when, by whom, and where it lies."""

import dataclasses
import os
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.waiting import until
from tests.training.plans import plans
from trainer.core.config import Config
from trainer.training.data.block_memory import SharedMemory
from trainer.training.data.read_ahead import Block, Depth, ReadAhead, Readers
from trainer.training.data.source_split import SourceSplit

BATCH, EXAMPLES = 8, 400
LARGE = 200_000  # Values of an example: a batch of them is more than one thread reads.


@dataclasses.dataclass
class Source:
    """Gives the number of an example, again and again, and notes who reads what."""

    values: int = 3
    together: bool = True
    process: int = dataclasses.field(default_factory=os.getpid)

    def __post_init__(self) -> None:
        self.read: list[tuple[int, str]] = []

    def __len__(self) -> int:
        return EXAMPLES

    def __getitem__(self, row: int) -> Any:
        self.read.append((row, threading.current_thread().name))
        return np.full(self.values, row, np.float32), np.int32(os.getpid() != self.process)

    def __getitems__(self, rows: list[int]) -> list[Any]:
        return [self[row] for row in rows]


class Meeting(Source):
    """Once training has begun, goes on only where two threads read at the same time."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.two = threading.Barrier(2, timeout=30)

    def __getitem__(self, row: int) -> Any:
        if threading.current_thread() is not threading.main_thread():
            self.two.wait()
        return super().__getitem__(row)


class Empty(Source):
    """Fails as a list does that is too short."""

    def __getitem__(self, row: int) -> Any:
        if row >= 100:
            raise IndexError("no such row")
        return super().__getitem__(row)


def reading(source: Source, processes: int = 0) -> ReadAhead:
    split = SourceSplit(source, "training")
    source.read.clear()
    readers = Readers(Config(reader_processes=processes))
    return ReadAhead(split, readers, plans(EXAMPLES, BATCH), shares=[BATCH], devices=[None], depth=Depth(2))


def rows_of(block: Block | None) -> list[float]:
    assert block
    return [float(row) for row in block.leaves[0][0][:, 0]]


@pytest.mark.parametrize("processes", [0, pytest.param(2, marks=pytest.mark.thorough)])
def test_blocks_stay_as_they_were_read_while_others_are(processes: int) -> None:
    ahead = reading(Source(), processes)
    blocks = [ahead.next() for _ in range(EXAMPLES // BATCH)]
    assert ahead.next() is None
    assert [row for block in blocks for row in rows_of(block)] == list(range(EXAMPLES))
    assert {int(there) for block in blocks if block for there in block.leaves[0][1]} == {min(processes, 1)}


def test_the_first_block_is_read_alone_and_by_several_threads() -> None:
    source = Meeting(LARGE)
    ahead = reading(source)
    until(30, "the first block", lambda: len(source.read) == BATCH)
    assert rows_of(ahead.next()) == list(range(BATCH))
    until(30, "two more", lambda: len(source.read) == 3 * BATCH)


def test_memory_that_processes_write_to_is_used_again_and_bounded() -> None:
    ahead = reading(Source(), processes=1)
    (pool,) = ahead._readers._pools.values()
    memory = pool[1]
    for first in range(EXAMPLES // BATCH):
        assert rows_of(ahead.next())[0] == first * BATCH
    assert len(memory._mapped) <= 4  # One in use, two ahead, one that is handed over.


def test_a_lease_is_free_when_its_last_array_is_gone() -> None:
    memory = SharedMemory()
    one, other = memory.lease(100), memory.lease(100)
    assert one.start != other.start
    array = np.asarray(one)[10:20].view(np.uint16)
    array[:] = 7
    start = one.start
    assert start is not None
    del one
    assert memory.lease(100).start != start
    assert memory.at(start, 100)[10] == 7
    del array
    assert start in [lease.start for lease in (memory.lease(100), memory.lease(100))]
    assert Path(f"/proc/self/fd/{memory._file}").readlink().name.startswith("memfd:")


def test_what_a_source_raises_is_told() -> None:
    ahead = reading(Empty())
    for _ in range(100 // BATCH):
        assert ahead.next()
    with pytest.raises(IndexError, match="no such row"):
        ahead.next()


class Exits(Source):
    """Its decode function ends the program."""

    def decode(self, example: Any, _seed: Any) -> Any:
        if example[0][0] == 100:
            sys.exit(0)
        return example


class StacksAndExits(Source):
    """What gives its examples stacked ends the program."""

    def stacked(self, rows: Any) -> Any:
        if 100 in rows:
            sys.exit(0)
        return np.stack([np.full(self.values, row, np.float32) for row in rows]), np.zeros(len(rows), np.int32)


@pytest.mark.parametrize(("kind", "where"), [(Exits, "[100]"), (StacksAndExits, ".stacked(")])
def test_a_source_that_exits_is_an_error(kind: type[Source], where: str) -> None:
    """An exit of a thread that reads would end training as if it were done."""
    ahead = reading(kind())
    for _ in range(100 // BATCH):
        assert ahead.next()
    with pytest.raises(RuntimeError, match=r"the source called sys.exit\(0\)") as error:
        ahead.next()
    (note,) = error.value.__notes__
    assert where in note
