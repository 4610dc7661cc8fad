"""Where a step's examples come from: arrays that lie on the devices, or blocks that are read ahead of it."""

import dataclasses
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from trainer.core.config import Config
from trainer.training.data import arrays, random_state
from trainer.training.data.arrays import Arrays
from trainer.training.data.order import Order
from trainer.training.data.read_ahead import Block, Depth, Plan, ReadAhead, Readers
from trainer.training.data.source_split import SourceSplit
from trainer.training.nests import Nest

Split = Arrays | SourceSplit
Batch = tuple[Nest, Nest, Nest, tf.Tensor]  # x, y, weight, and the examples' rows: int64 [batch]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shares:
    """How global batches are shared by replicas, and which of these are this process's."""

    batch: int  # Examples of a global batch.
    of_replicas: list[int]
    first: int  # The number of this process's first replica.
    devices: list[str | None]  # Of this process's replicas.

    def of_local(self, local: int) -> tuple[int, int]:
        """Where the share of one of this process's replicas begins in a batch, and its examples."""
        replica = self.first + local
        return sum(self.of_replicas[:replica]), self.of_replicas[replica]


class Feed(Protocol):
    """Gives the compiled steps their examples."""

    variables: tuple[tf.Variable, ...]  # That the steps read.

    @property
    def waited(self) -> float | None:
        """Seconds in which no step could be made for want of data; None: it is all in memory."""

    def start_epoch(self, epoch: int) -> None:
        """Sets the order of an epoch (from 0)."""

    def at(self, step: int, until: int) -> tuple[Any, int]:
        """Tensors from which steps from `step` on are made, and the step, at most `until`, up to which they suffice."""

    def specs(self) -> Any:
        """The types of these tensors."""

    def take(self, given: Any, step: tf.Tensor, replica: int, local: int) -> Batch:
        """Within a compiled step: a replica's share of the step's batch."""


def feed(config: Config, split: Split, shares: Shares, steps_per_epoch: int, readers: Readers) -> Feed:
    """What feeds training from a split."""
    if isinstance(split, Arrays):
        return ArrayFeed(config, split, shares, steps_per_epoch)
    return SourceFeed(config, split, shares, steps_per_epoch, readers)


class ArrayFeed:
    """Each device holds all examples, and takes those that the epoch's order names."""

    waited = None

    def __init__(self, config: Config, split: Arrays, shares: Shares, steps_per_epoch: int) -> None:
        """Moves the examples to the devices."""
        self._config, self._examples, self._shares = config, split.examples, shares
        self._steps_per_epoch = steps_per_epoch
        self._data = [split.on(device) for device in shares.devices]
        self._order = tf.Variable(np.arange(split.examples, dtype=np.int64), trainable=False, name="order")
        self.variables = (self._order,)

    def start_epoch(self, epoch: int) -> None:
        """See `Feed`."""
        order = Order(self._config.seed, epoch, self._examples, shuffle=self._config.shuffle)
        self._order.assign(order.rows(0, self._examples))

    def at(self, step: int, until: int) -> tuple[Any, int]:  # noqa: ARG002
        """See `Feed`."""
        return (), until

    def specs(self) -> Any:
        """See `Feed`."""
        return ()

    def take(self, given: Any, step: tf.Tensor, replica: int, local: int) -> Batch:  # noqa: ARG002
        """See `Feed`."""
        begin, share = sum(self._shares.of_replicas[:replica]), self._shares.of_replicas[replica]
        first = (step % self._steps_per_epoch) * self._shares.batch + begin
        rows = tf.ensure_shape(tf.gather(self._order, first + tf.range(share, dtype=tf.int64)), [share])
        return (*arrays.take(self._data[local], rows), rows)


class SourceFeed:
    """Blocks of steps are read ahead, of each global batch the shares of this process's replicas alone."""

    variables: tuple[tf.Variable, ...] = ()

    def __init__(
        self, config: Config, split: SourceSplit, shares: Shares, steps_per_epoch: int, readers: Readers
    ) -> None:
        """Reads nothing yet.

        Raises:
          UsageError: the source cannot be sent to the processes that are to read it.
        """
        self._config, self._split, self._shares, self._readers = config, split, shares, readers
        self._steps_per_epoch = steps_per_epoch
        readers.start(split)
        # All workers must end their blocks at the same steps: so nothing here may differ between them.
        largest = max(shares.of_replicas) * len(shares.devices) * split.reader.bytes_per_example
        self.depth = Depth.of(config, largest)
        self._reading: ReadAhead | None = None
        self._block: Block | None = None

    @property
    def bytes_ahead(self) -> int:
        """The most that examples which are read ahead take, in this process's memory."""
        return (
            (self.depth.batches + self.depth.of_block)
            * sum(self._local_shares())
            * self._split.reader.bytes_per_example
        )

    @property
    def waited(self) -> float:
        """See `Feed`."""
        return self._reading.waited if self._reading else 0.0

    def start_epoch(self, epoch: int) -> None:
        """See `Feed`: the order follows from the step."""

    def at(self, step: int, until: int) -> tuple[Any, int]:
        """See `Feed`.

        Raises:
          DataError: an example cannot be read or trained on.
        """
        if self._reading is None:
            self._reading = self._read_from(step)
        block = self._block
        if block is None or step >= block.plan.first + block.plan.batches:
            self._block = block = None  # Its room is free for the one that is read meanwhile.
            self._block = block = self._reading.next()
        assert block is not None  # noqa: S101  There are blocks up to the run's last step.
        plan = block.plan
        given = {"first": tf.constant(plan.first, tf.int64), "leaves": block.leaves, "rows": block.rows}
        return given, min(until, plan.first + plan.batches)

    def specs(self) -> Any:
        """See `Feed`."""
        capacities = [self.depth.of_block * share for share in self._local_shares()]
        like = self._split.reader.buffers(1)
        return {
            "first": tf.TensorSpec([], tf.int64),
            "leaves": [[tf.TensorSpec([size, *leaf.shape[1:]], leaf.dtype) for leaf in like] for size in capacities],
            "rows": [tf.TensorSpec([size], tf.int64) for size in capacities],
        }

    def take(self, given: Any, step: tf.Tensor, replica: int, local: int) -> Batch:
        """See `Feed`."""
        share = self._shares.of_replicas[replica]
        places = (step - given["first"]) * share + tf.range(share, dtype=tf.int64)
        taken = [tf.gather(leaf, places) for leaf in given["leaves"][local]]
        return (*self._split.reader.nests(taken), tf.gather(given["rows"][local], places))

    def _local_shares(self) -> list[int]:
        return [self._shares.of_local(local)[1] for local in range(len(self._shares.devices))]

    def _read_from(self, step: int) -> ReadAhead:
        return ReadAhead(
            self._split,
            self._readers,
            self._plans(step),
            shares=self._local_shares(),
            devices=self._shares.devices,
            depth=self.depth,
        )

    def _plans(self, step: int) -> Iterator[Plan]:
        """Blocks from a step on to the run's last one."""
        config, batch, known, sizes = self._config, self._shares.batch, -1, self.depth.sizes()
        while step < config.epochs * self._steps_per_epoch:
            epoch, within = divmod(step, self._steps_per_epoch)
            if epoch != known:
                order, known = Order(config.seed, epoch, self._split.examples, shuffle=config.shuffle), epoch
            batches = min(next(sizes), self._steps_per_epoch - within)
            rows = []
            for local in range(len(self._shares.devices)):
                begin, share = self._shares.of_local(local)
                firsts = [(within + index) * batch + begin for index in range(batches)]
                rows.append(np.concatenate([order.rows(first, first + share) for first in firsts]))
            seed = random_state.epoch_seed(config.seed, epoch, training=True)
            yield Plan(first=step, batches=batches, rows=rows, epoch_seed=seed)
            step += batches
