"""Where the batches of a validation split come from: arrays that lie on a device, or blocks that are read ahead."""

import dataclasses
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from trainer.core.config import Config
from trainer.training.data import arrays, random_state
from trainer.training.data.arrays import Arrays
from trainer.training.data.feeding import Batch, Split
from trainer.training.data.read_ahead import Depth, Plan, ReadAhead, Readers
from trainer.training.data.source_split import SourceSplit


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batches:
    """Which batches of a split a replica evaluates: every `apart`-th from `first` on."""

    size: int
    examples: int  # Of the split.
    first: int
    apart: int

    @property
    def whole(self) -> int:
        """How many of the split's batches are full."""
        return self.examples // self.size

    @property
    def rest(self) -> int:
        """Examples of the short last batch, if it is this replica's; 0 if not, or if there is none."""
        mine = self.apart == 1 or self.whole % self.apart == self.first
        return self.examples % self.size if mine else 0

    @property
    def count(self) -> int:
        """How many batches the replica evaluates."""
        return len(range(self.first, -(-self.examples // self.size), self.apart))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Call:
    """What one compiled call may evaluate, or several in turn."""

    begin: int  # Its first batch.
    end: int  # Beyond its last one.
    short: bool  # Whether it is the short last batch alone.
    given: Any  # Tensors for `ValidationFeed.take`.


class ValidationFeed(Protocol):
    """Gives a compiled pass its examples."""

    def calls(self) -> Iterator[Call]:
        """One pass over a replica's batches."""

    def take(self, given: Any, index: tf.Tensor, count: int) -> Batch:
        """Within a compiled call: the examples of a batch."""


def validation_feed(
    config: Config, split: Split, batches: Batches, device: str | None, readers: Readers
) -> ValidationFeed:
    """What feeds a replica's pass over a split."""
    if isinstance(split, Arrays):
        return _ArrayPass(split, batches, device)
    return _SourcePass(config, split, batches, device, readers)


class _ArrayPass:
    def __init__(self, split: Arrays, batches: Batches, device: str | None) -> None:
        self._batches, self._data = batches, split.on(device)

    def calls(self) -> Iterator[Call]:
        batches = self._batches
        if batches.first < batches.whole:
            yield Call(begin=batches.first, end=batches.whole, short=False, given=())
        if batches.rest:
            yield Call(begin=batches.whole, end=batches.whole + 1, short=True, given=())

    def take(self, given: Any, index: tf.Tensor, count: int) -> Batch:  # noqa: ARG002
        rows = index * self._batches.size + tf.range(count, dtype=tf.int64)
        return (*arrays.take(self._data, rows), rows)


class _SourcePass:
    def __init__(
        self, config: Config, split: SourceSplit, batches: Batches, device: str | None, readers: Readers
    ) -> None:
        self._split, self._batches, self._device, self._readers = split, batches, device, readers
        self._depth = Depth.of(config, batches.size * split.reader.bytes_per_example)
        self._seed = random_state.epoch_seed(config.seed, 0, training=False)

    def calls(self) -> Iterator[Call]:
        reading = ReadAhead(
            self._split,
            self._readers,
            self._plans(),
            shares=[self._batches.size],
            devices=[self._device],
            depth=self._depth,
        )
        while (block := reading.next()) is not None:
            first, count = block.plan.first, block.plan.batches
            given = {"first": tf.constant(first, tf.int64), "leaves": block.leaves[0]}
            end = first + (count - 1) * self._batches.apart + 1
            yield Call(begin=first, end=end, short=first == self._batches.whole, given=given)

    def take(self, given: Any, index: tf.Tensor, count: int) -> Batch:
        batches, numbers = self._batches, tf.range(count, dtype=tf.int64)
        places = (index - given["first"]) // batches.apart * batches.size + numbers
        taken = [tf.gather(leaf, places) for leaf in given["leaves"]]
        return (*self._split.reader.nests(taken), index * batches.size + numbers)

    def _plans(self) -> Iterator[Plan]:
        batches, sizes = self._batches, self._depth.sizes()
        first = batches.first
        while first < batches.whole:
            indices = range(first, batches.whole, batches.apart)[: next(sizes)]
            rows = [np.arange(index * batches.size, (index + 1) * batches.size) for index in indices]
            yield Plan(first=first, batches=len(indices), rows=[np.concatenate(rows)], epoch_seed=self._seed)
            first += len(indices) * batches.apart
        if batches.rest:
            rest = np.arange(batches.whole * batches.size, batches.examples)
            yield Plan(first=batches.whole, batches=1, rows=[rest], epoch_seed=self._seed)
