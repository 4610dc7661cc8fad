"""A pass over the validation split, compiled: by one replica, or by several, each with batches of its own.

It is made some batches at a time, as training is of steps.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer.core.config import Config
from trainer.training.data import random_state
from trainer.training.data.feeding import Split
from trainer.training.data.read_ahead import Readers
from trainer.training.data.validation_feed import Batches, Call, validation_feed
from trainer.training.hardware import collective
from trainer.training.hardware.collective import WorkersSum
from trainer.training.model import samples
from trainer.training.model.experiment import Preprocess
from trainer.training.model.first_look import FirstLook
from trainer.training.model.merging import Merging
from trainer.training.model.model_step import ModelStep
from trainer.training.model.scores import Scores, Sums
from trainer.training.state.variables import Variables


@dataclasses.dataclass
class _Part:
    """How far one replica of this process is in a pass."""

    batches: Batches
    calls: Iterator[Call]
    sums: Sums
    call: Call | None = None  # What gives its next batch; None: the next of the calls does.
    done: int = 0  # Batches.


class Evaluation:
    """Gives the loss and the metrics over the validation split, one pass at a time."""

    def __init__(
        self,
        *,
        config: Config,
        strategy: tf.distribute.Strategy,
        look: FirstLook,
        validation: Split,
        preprocess: Preprocess | None,
        model_step: ModelStep,
        variables: Variables,
        scores: Scores,
        merging: Merging,
        bases: list[int],
        devices: Sequence[str | None],
        readers: Readers,
        jit_compile: bool,
    ) -> None:
        """Moves the split to the devices.

        Args:
          config: the flags.
          strategy: of all replicas.
          look: what the first batch has shown.
          validation: the split.
          preprocess: the experiment's, or None.
          model_step: the model's part.
          variables: its variables on each replica.
          scores: its metrics.
          merging: how those of several replicas become one.
          bases: of the seed generators; see `random_state.layer_bases`.
          devices: of this process's replicas.
          readers: what reads a split that is not in memory.
          jit_compile: whether XLA compiles the pass.
        """
        self._config, self._strategy, self._look = config, strategy, look
        self._validation, self._preprocess = validation, preprocess
        self._model_step, self._variables, self._scores = model_step, variables, scores
        self._merging, self._bases = merging, bases
        self._replicas = strategy.num_replicas_in_sync
        # State that validation changes, too, must be the same everywhere: then every replica passes over all batches.
        self._alike = look.assigns
        self._devices = list(devices)
        self._workers_sum = WorkersSum(strategy, len(self._devices))
        self._first = collective.first_replica(strategy, len(self._devices))
        self._batch = self._evaluation_batch()
        self._feeds = [
            validation_feed(config, validation, self._batches_of(self._first + local), device, readers)
            for local, device in enumerate(self._devices)
        ]
        self.batches = self._batches_of(0).count
        self._parts: list[_Part] = []
        self._build(jit_compile=jit_compile)

    def _build(self, *, jit_compile: bool) -> None:
        self.jit_compile = jit_compile
        self._compiled = False  # Whether the functions were called.
        whole, short = self._batch, self._validation.examples % self._batch
        self._whole, self._short = (
            [
                tf.function(
                    functools.partial(self._some_batches, local=local, count=count),
                    autograph=False,
                    jit_compile=jit_compile or None,
                )
                for local in range(len(self._devices))
            ]
            for count in (whole, short)
        )

    def without_xla(self) -> None:
        """From now on runs as plain TensorFlow."""
        self._build(jit_compile=False)

    def with_xla(self) -> None:
        """From now on is compiled by XLA again."""
        self._build(jit_compile=True)

    def begin(self, epoch: int) -> None:
        """Begins a pass after an epoch (from 0) with the first batch of each replica, before which all is compiled."""
        self._epoch = tf.constant(epoch, tf.int64)
        replicas = range(len(self._devices))
        self._before = [self._state(local) for local in replicas]
        self._parts = []
        for local in replicas:
            with tf.device(self._devices[local]):
                sums = [tf.convert_to_tensor(value) for value in self._scores.start()]
            batches = self._batches_of(self._first + local)
            self._parts.append(_Part(batches=batches, calls=self._feeds[local].calls(), sums=sums))
        if not self._compiled:
            for local in replicas:
                self._compile(local)
            self._compiled = True
        self.advance(1)

    @property
    def done(self) -> int:
        """The batches that this process's replicas have evaluated, each of them."""
        return max(part.done for part in self._parts)

    @property
    def more(self) -> bool:
        """Whether one of them has more to evaluate."""
        return any(part.done < part.batches.count for part in self._parts)

    def advance(self, batches: int) -> int:
        """Evaluates at most so many more batches on each replica, as far as they were read; returns how many."""
        made = max(self._go_on(local, batches) for local in range(len(self._devices)))
        for part in self._parts:
            part.sums[0].numpy()  # Which waits for a GPU.
        return made

    def abandon(self) -> None:
        """Ends a pass before its end: what it has changed is as before."""
        for local, state in enumerate(self._before):
            self._keep(local, state)
        self._parts = []

    def values(self) -> dict[str, float]:
        """The loss and the metrics, by name, of a pass that is done: what all replicas have measured is added up."""
        sums = [self._contribution(local) for local in range(len(self._devices))]
        self._parts = []
        if self._replicas == 1:
            return self._scores.values(sums[0], self._validation.examples)
        total = [np.sum(parts, axis=0) for parts in zip(*sums, strict=True)]
        loss, *metrics = self._workers_sum.of(total)
        start = self._scores.start()[1:]
        joined = self._merging.joined([tf.convert_to_tensor(value) for value in start], metrics)
        return self._scores.values([loss, *joined], self._validation.examples)

    def _batches_of(self, replica: int) -> Batches:
        """The batches that a replica evaluates; where state must be the same on all of them, every one."""
        first, apart = (0, 1) if self._alike else (replica, self._replicas)
        return Batches(size=self._batch, examples=self._validation.examples, first=first, apart=apart)

    def _compile(self, local: int) -> None:
        """Has a replica's functions compiled, by calls for no batch, before one of them may change anything."""
        part = self._parts[local]
        part.call = next(part.calls, None)
        if part.call is None:
            return
        for evaluate, needed in ((self._whole, part.batches.whole), (self._short, part.batches.rest)):
            if needed:
                self._evaluate(evaluate[local], local, part.call.begin, part.call.begin)

    def _go_on(self, local: int, batches: int) -> int:
        """Evaluates at most so many more of a replica's batches, all of one call; returns how many."""
        part = self._parts[local]
        first, apart = part.batches.first, part.batches.apart
        until = min(part.done + batches, part.batches.count)
        if part.done == until:
            return 0
        part.call = call = part.call or next(part.calls)
        begin, end = first + part.done * apart, min(first + until * apart, call.end)
        part.sums = self._evaluate((self._short if call.short else self._whole)[local], local, begin, end)
        made = len(range(begin, end, apart))
        part.done += made
        if first + part.done * apart >= call.end:
            part.call = None
        return made

    def _evaluate(self, evaluate: Callable[..., Sums], local: int, begin: int, end: int) -> Sums:
        part = self._parts[local]
        assert part.call  # noqa: S101
        with tf.device(self._devices[local]):
            indices = tf.constant(begin, tf.int64), tf.constant(end, tf.int64)
            return evaluate(*indices, self._epoch, part.sums, part.call.given)

    def _contribution(self, local: int) -> list[npt.NDArray[Any]]:
        """What a replica adds to the sums; where there is one, the sums."""
        sums = self._parts[local].sums
        if self._replicas == 1:
            return [value.numpy() for value in sums]
        replica = self._first + local
        with tf.device(self._devices[local]):
            if self._alike and replica > 0:  # The first has measured the same: this one has nothing to add.
                sums = [tf.convert_to_tensor(value) for value in self._scores.start()]
            loss, *metrics = sums
            return [value.numpy() for value in (loss, *self._merging.contributions(metrics, replica))]

    def _some_batches(
        self, begin: tf.Tensor, end: tf.Tensor, epoch: tf.Tensor, sums: Sums, given: Any, *, local: int, count: int
    ) -> Sums:
        """A replica's batches of `count` examples each, from one on, in turn."""
        apart = self._batches_of(self._first + local).apart
        _, sums, state = tf.while_loop(
            lambda index, *_: index < end,
            lambda index, sums, state: (
                index + apart, *self._evaluated(given, index, epoch, sums, state, local=local, count=count)
            ),
            [begin, sums, self._state(local)],
            parallel_iterations=1,
        )  # fmt: skip
        self._keep(local, state)
        return list(sums)

    def _evaluated(
        self, given: Any, index: tf.Tensor, epoch: tf.Tensor, sums: Sums, state: Any, *, local: int, count: int
    ) -> tuple[Sums, Any]:
        """The sums and the state after one more batch."""
        x, y, weight, rows = self._feeds[local].take(given, index, count)
        x, y = samples.prepared(self._preprocess, self._config.seed, x, y, rows)
        layers = random_state.validation_seeds(self._bases, epoch, index)
        trained, others = self._variables.read_trained(local), state or self._variables.read_others(local)
        sums, after = self._model_step.evaluated(x, y, weight, layers, trained, others, sums)
        return sums, after if self._alike else []

    def _state(self, local: int) -> list[tf.Tensor]:
        """What a pass changes."""
        return self._variables.read_others(local) if self._alike else []

    def _keep(self, local: int, state: Any) -> None:
        if self._alike:
            self._variables.write_others(local, state)

    def _evaluation_batch(self) -> int:
        """Examples of the validation split that are evaluated at once.

        Where a loss or a metric depends on what else is in the batch, as a mean over what is not masked, or state
        counts batches, it is the batch of Keras' `fit`: that of training. Else it is as large as is quick.
        """
        own = min(self._config.global_batch_size, self._validation.examples)
        if not self._look.independent or not self._merging.adds_up or self._alike:
            return own
        return min(max(own, samples.at_once(self._validation.bytes_per_example)), self._validation.examples)
