"""Reads blocks of a source's examples ahead of the steps that train on them, in threads, or in processes of its own.

A block is what one compiled call may take: some batches, of each the shares of this process's replicas. Blocks follow
from the position alone, so nothing of a reader has to be saved.
"""

import collections
import concurrent.futures
import dataclasses
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer.core import agent_link
from trainer.core.config import Config
from trainer.core.exit_codes import DataError
from trainer.sources import files
from trainer.training.data import reader_process
from trainer.training.data.block_memory import OwnMemory, Room, SharedMemory
from trainer.training.data.order import Rows
from trainer.training.data.reader_process import Part
from trainer.training.data.source_split import SourceSplit

_THREADS = 16  # Reading waits for disks and networks; what keeps the interpreter busy gains nothing by more.
_AHEAD_BYTES = 2**26  # Of examples that a worker reads ahead, if not told otherwise.
_MOST_AHEAD = 128  # Batches.
_PIECE = 32  # Examples that are read one after another, where a source gives them one by one.
_PIECE_BYTES = 2**19  # The most that one thread reads of a batch: the first batch is soon there, and takes all threads.
_STACKED_BYTES = 2**21  # The same of a source that gives many examples as one array, for which a call is what costs.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What a block holds."""

    first: int  # The number of its first batch, as its consumer counts.
    batches: int
    rows: list[Rows]  # Of each replica of this process.
    epoch_seed: int  # Of all these rows.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Block:
    """A plan carried out: for each replica of this process, the rows' examples on its device."""

    plan: Plan
    leaves: list[list[tf.Tensor]]
    rows: list[tf.Tensor]  # int64, as long as the leaves.


@dataclasses.dataclass(frozen=True)
class Depth:
    """How far a consumer's batches are read ahead, and in what blocks."""

    batches: int

    @classmethod
    def of(cls, config: Config, size: int) -> Self:
        """What the flags say, or what suits batches of so many bytes."""
        return cls(config.prefetch or max(2, min(_MOST_AHEAD, _AHEAD_BYTES // size)))

    @property
    def of_block(self) -> int:
        """The most batches of a block: one block is read while another waits."""
        return max(1, self.batches // 2)

    @property
    def blocks(self) -> int:
        """Blocks beyond the one in use."""
        return max(1, self.batches // self.of_block)

    def sizes(self) -> Iterator[int]:
        """The most batches of each block in turn: the first is short, so that its consumer begins soon."""
        size = 1
        while True:
            yield size
            size = min(2 * size, self.of_block)


class Readers:
    """What reads: threads of this process, and processes beside it if asked for; for all splits of a run."""

    def __init__(self, config: Config) -> None:
        """Starts nothing yet, and says where files of buckets are kept.

        Raises:
          UsageError: nothing can be kept there.
        """
        self._cache = config.data_cache, int(config.data_cache_gib * 2**30)
        files.use_cache(self._cache[0] or None, self._cache[1])
        self.threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="reader")
        self.processes, self._may_skip = config.reader_processes, config.skip_bad_records
        self._memory = OwnMemory()
        self._pools: dict[int, tuple[ProcessPoolExecutor, SharedMemory]] = {}
        self._damaged: set[tuple[str, int]] = set()
        self._lock = threading.Lock()

    def start(self, split: SourceSplit) -> None:
        """Starts the processes that will read a split: they take seconds, in which a model is compiled.

        Raises:
          UsageError: its source cannot be sent to them.
        """
        if self.processes:
            self._pool(split)[0].submit(os.getpid)

    def room(self, split: SourceSplit, examples: int) -> Room:
        """Memory for so many examples, where what reads can write to."""
        return Room.of(self._pool(split)[1] if self.processes else self._memory, split.reader, examples)

    def read(self, split: SourceSplit, rows: Rows, epoch_seed: int, room: Room, first: int) -> None:
        """Reads examples into their room, from its example `first` on, and looks at them.

        Raises:
          DataError: one is damaged beyond what may be passed over, or cannot be trained on.
        """
        out = room.part(first, first + len(rows))
        if room.start is None:
            damaged = split.reader.read(rows, epoch_seed, out).damaged
        else:
            part = Part(room.start, len(room.leaves[0]), first)
            try:
                damaged = self._pool(split)[0].submit(reader_process.read, rows, epoch_seed, part).result()
            except BrokenExecutor as error:
                raise RuntimeError(
                    f"a process of --reader_processes={self.processes} that read the {split.name} data has ended: it "
                    "was killed, perhaps for want of memory, or the source's code ended it"
                ) from error
        self._note(split.name, damaged)
        split.check(out, rows)

    def _pool(self, split: SourceSplit) -> tuple[ProcessPoolExecutor, SharedMemory]:
        with self._lock:
            if id(split) not in self._pools:
                memory = SharedMemory()
                # The training process ends at once and leaves the pool's semaphores to multiprocessing's tracker, whose
                # warning of them would be the last line of the log.
                sys.warnoptions.append("ignore:resource_tracker:UserWarning")
                executor = ProcessPoolExecutor(
                    self.processes,
                    mp_context=multiprocessing.get_context("spawn"),
                    initializer=reader_process.begin,
                    initargs=(split.pickled_reader(), memory, *self._cache),
                )
                self._pools[id(split)] = executor, memory
            return self._pools[id(split)]

    def _note(self, name: str, damaged: dict[int, str]) -> None:
        for row, why in sorted(damaged.items()):
            with self._lock:
                if (name, row) in self._damaged:
                    continue
                self._damaged.add((name, row))
                count = len(self._damaged)
            if count > self._may_skip:
                raise DataError(f"{why}; it is one more than --skip_bad_records={self._may_skip} on this worker")
            print(
                f"passed over example {row} of the {name} data, {count} of at most {self._may_skip}: {why}", flush=True
            )


class ReadAhead:
    """The blocks of one consumer, in order; some of them are read while the one before is used."""

    def __init__(
        self,
        split: SourceSplit,
        readers: Readers,
        plans: Iterator[Plan],
        *,
        shares: list[int],
        devices: list[str | None],
        depth: Depth,
    ) -> None:
        """Begins to read.

        Args:
          split: what is read from.
          readers: what reads.
          plans: the blocks.
          shares: examples of a batch, on each device.
          devices: of the replicas of this process.
          depth: how far ahead.
        """
        self._split, self._readers, self._plans = split, readers, plans
        self._capacities = [depth.of_block * share for share in shares]  # Examples that a block has room for.
        self._devices, self._ahead = devices, depth.blocks
        self._waited = 0.0
        self._waits_since: float | None = None
        self._begun: collections.deque[Future[Block]] = collections.deque()
        self._fill(1)  # Alone: what comes after it would only take from its threads.

    @property
    def waited(self) -> float:
        """Seconds in which `next` had nothing to give; may be asked by another thread."""
        since = self._waits_since
        return self._waited + (time.monotonic() - since if since is not None else 0.0)

    def next(self) -> Block | None:
        """The next block, when it is there; None when there is none any more.

        Raises:
          DataError: an example cannot be read or trained on.
        """
        if not self._begun:
            return None
        future = self._begun[0]
        if not future.done():
            self._waits_since = time.monotonic()
            with agent_link.waiting_for_data():
                concurrent.futures.wait([future])
            self._waited, self._waits_since = self.waited, None
        self._begun.popleft()
        block = future.result()
        self._fill(self._ahead)
        return block

    def _fill(self, ahead: int) -> None:
        while len(self._begun) < ahead and (plan := next(self._plans, None)) is not None:
            self._begun.append(self._begin(plan))

    def _begin(self, plan: Plan) -> Future[Block]:
        """Reads a block in pieces; the thread that reads the last one brings it to the devices."""
        block: Future[Block] = Future()
        rooms = [self._readers.room(self._split, capacity) for capacity in self._capacities]
        size = self._piece(len(plan.rows[0]) // plan.batches)
        pieces = collections.deque(
            (replica, first, min(first + size, len(rows)))
            for replica, rows in enumerate(plan.rows)
            for first in range(0, len(rows), size)
        )
        left = [len(pieces)]
        lock = threading.Lock()

        def read(replica: int, first: int, end: int) -> None:
            rows = plan.rows[replica][first:end]
            self._readers.read(self._split, rows, plan.epoch_seed, rooms[replica], first)
            with lock:
                left[0] -= 1
                last = not left[0]
            if last:
                self._settle(block, self._moved(plan, rooms))

        def read_some() -> None:
            while not block.done():  # It is done before its time if a piece has failed.
                try:
                    piece = pieces.popleft()
                except IndexError:
                    return
                try:
                    read(*piece)
                except BaseException as error:  # Told to who waits for the block.
                    self._settle(block, error)

        for _ in range(min(len(pieces), _THREADS)):  # Few calls: each waits for threads that read already.
            self._readers.threads.submit(read_some)
        return block

    def _piece(self, batch: int) -> int:
        """Examples that are read by one call, where a batch has so many."""
        reader = self._split.reader
        size = max(1, (_STACKED_BYTES if reader.stacks else _PIECE_BYTES) // reader.bytes_per_example)
        if not reader.stacks:
            size = min(size, batch if reader.reads_many else _PIECE)
        if reader.reads_many and self._readers.processes:  # Asking a process costs as much as some large examples.
            size = max(size, -(-batch // self._readers.processes))
        return size

    def _moved(self, plan: Plan, rooms: list[Room]) -> Block:
        tensors, numbers = [], []
        for device, room, rows, capacity in zip(self._devices, rooms, plan.rows, self._capacities, strict=True):
            with tf.device(device):
                tensors.append([_tensor(leaf) for leaf in room.leaves])
                numbers.append(tf.constant(np.pad(rows, (0, capacity - len(rows))), tf.int64))
        return Block(plan=plan, leaves=tensors, rows=numbers)

    @staticmethod
    def _settle(block: Future[Block], result: Block | BaseException) -> None:
        try:
            if isinstance(result, BaseException):
                block.set_exception(result)
            else:
                block.set_result(result)
        except concurrent.futures.InvalidStateError:
            return  # Another piece has failed before.


def _tensor(array: npt.NDArray[Any]) -> tf.Tensor:
    """An array where TensorFlow would put it; on a CPU that is the array's own memory, to be left as it is from now on.

    `tf.constant` copies an array twice, into memory that is new each time: most of what reading large examples took.
    """
    if not array.nbytes:
        return tf.constant(array)
    return tf.identity(tf.experimental.dlpack.from_dlpack(array.__dlpack__()))
