"""A pass over the validation split, compiled: by one replica, or by several, each with batches of its own."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer.core.config import Config
from trainer.training.data import random_state
from trainer.training.data.feeding import Split
from trainer.training.data.read_ahead import Readers
from trainer.training.data.validation_feed import Batches, validation_feed
from trainer.training.hardware import collective
from trainer.training.hardware.collective import WorkersSum
from trainer.training.model import samples
from trainer.training.model.experiment import Preprocess
from trainer.training.model.first_look import FirstLook
from trainer.training.model.merging import Merging
from trainer.training.model.model_step import ModelStep
from trainer.training.model.scores import Scores, Sums
from trainer.training.state.variables import Variables


class Evaluation:
    """Gives the loss and the metrics over the validation split."""

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
        self._build(jit_compile=jit_compile)

    def _build(self, *, jit_compile: bool) -> None:
        self.jit_compile = jit_compile
        self._whole, self._short = (
            [
                tf.function(functools.partial(of, local=local), autograph=False, jit_compile=jit_compile or None)
                for local in range(len(self._devices))
            ]
            for of in (self._whole_batches, self._short_batch)
        )

    def without_xla(self) -> None:
        """From now on runs as plain TensorFlow."""
        self._build(jit_compile=False)

    def run(self, epoch: int) -> dict[str, float]:
        """The loss and the metrics, by name: each replica passes over batches of its own, then all are added up."""
        start = self._scores.start()
        sums = [self._pass_of(local, epoch, start) for local in range(len(self._devices))]
        if self._replicas == 1:
            return self._scores.values(sums[0], self._validation.examples)
        total = [np.sum(parts, axis=0) for parts in zip(*sums, strict=True)]
        loss, *metrics = self._workers_sum.of(total)
        joined = self._merging.joined([tf.convert_to_tensor(value) for value in start[1:]], metrics)
        return self._scores.values([loss, *joined], self._validation.examples)

    def _batches_of(self, replica: int) -> Batches:
        """The batches that a replica evaluates; where state must be the same on all of them, every one."""
        first, apart = (0, 1) if self._alike else (replica, self._replicas)
        return Batches(size=self._batch, examples=self._validation.examples, first=first, apart=apart)

    def _pass_of(self, local: int, epoch: int, start: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        """What a replica adds to the sums; where there is one, the sums."""
        with tf.device(self._devices[local]):
            sums = [tf.convert_to_tensor(value) for value in start]
            number = tf.constant(epoch, tf.int64)
            for call in self._feeds[local].calls():
                begin, end = tf.constant(call.begin, tf.int64), tf.constant(call.end, tf.int64)
                evaluate = (self._short if call.short else self._whole)[local]
                sums = evaluate(begin, end, number, sums, call.given)
            if self._replicas == 1:
                return [value.numpy() for value in sums]
            replica = self._first + local
            if self._alike and replica > 0:  # The first has measured the same: this one has nothing to add.
                sums = [tf.convert_to_tensor(value) for value in start]
            loss, *metrics = sums
            return [value.numpy() for value in (loss, *self._merging.contributions(metrics, replica))]

    def _whole_batches(
        self, begin: tf.Tensor, end: tf.Tensor, epoch: tf.Tensor, sums: Sums, given: Any, *, local: int
    ) -> Sums:
        """A replica's full batches from one on, in turn."""
        apart = self._batches_of(self._first + local).apart
        _, sums, state = tf.while_loop(
            lambda index, *_: index < end,
            lambda index, sums, state: (
                index + apart, *self._evaluated(given, index, epoch, sums, state, local=local, count=self._batch)
            ),
            [begin, sums, self._state(local)],
            parallel_iterations=1,
        )  # fmt: skip
        self._keep(local, state)
        return list(sums)

    def _short_batch(
        self,
        begin: tf.Tensor,
        end: tf.Tensor,  # noqa: ARG002
        epoch: tf.Tensor,
        sums: Sums,
        given: Any,
        *,
        local: int,
    ) -> Sums:
        """The last batch, which is not full."""
        count = self._validation.examples % self._batch
        sums, state = self._evaluated(given, begin, epoch, sums, self._state(local), local=local, count=count)
        self._keep(local, state)
        return sums

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
