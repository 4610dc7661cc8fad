"""A pass over the validation split, compiled: by one replica, or by several, each with batches of its own."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer.core.config import Config
from trainer.training import arrays, collective, random_state
from trainer.training.arrays import Arrays
from trainer.training.collective import WorkersSum
from trainer.training.experiment import Preprocess
from trainer.training.first_look import FirstLook
from trainer.training.merging import Merging
from trainer.training.model_step import ModelStep
from trainer.training.preparation import prepare
from trainer.training.scores import Scores, Sums
from trainer.training.variables import Variables

_BATCH = 1000
_BATCH_BYTES = 2**22  # The inputs of a batch: large examples are evaluated in smaller batches.


class Evaluation:
    """Gives the loss and the metrics over the validation split."""

    def __init__(
        self,
        *,
        config: Config,
        strategy: tf.distribute.Strategy,
        look: FirstLook,
        validation: Arrays,
        preprocess: Preprocess | None,
        model_step: ModelStep,
        variables: Variables,
        scores: Scores,
        merging: Merging,
        bases: list[int],
        devices: Sequence[str | None],
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
          jit_compile: whether XLA compiles the pass.
        """
        self._config, self._strategy, self._look = config, strategy, look
        self._validation, self._preprocess = validation, preprocess
        self._model_step, self._variables, self._scores = model_step, variables, scores
        self._merging, self._bases = merging, bases
        self._replicas = strategy.num_replicas_in_sync
        # State that validation changes, too, must be the same everywhere: then every replica passes over all batches.
        self._alike = look.assigns
        self._devices, self._data = list(devices), [validation.on(device) for device in devices]
        self._workers_sum = WorkersSum(strategy, len(self._data))
        self._first = collective.first_replica(strategy, len(self._data))
        self._passes = [
            tf.function(
                functools.partial(self._pass_over, replica=self._first + local, local=local),
                autograph=False,
                jit_compile=True if jit_compile else None,
            )
            for local in range(len(self._data))
        ]

    def run(self, epoch: int) -> dict[str, float]:
        """The loss and the metrics, by name: each replica passes over batches of its own, then all are added up."""
        start = self._scores.start()
        sums = [self._pass_of(local, epoch, start) for local in range(len(self._data))]
        if self._replicas == 1:
            return self._scores.values(sums[0], self._validation.examples)
        total = [np.sum(parts, axis=0) for parts in zip(*sums, strict=True)]
        loss, *metrics = self._workers_sum.of(total)
        joined = self._merging.joined([tf.convert_to_tensor(value) for value in start[1:]], metrics)
        return self._scores.values([loss, *joined], self._validation.examples)

    def _pass_of(self, local: int, epoch: int, start: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        """What a replica adds to the sums; where there is one, the sums."""
        with tf.device(self._devices[local]):
            batches = tf.constant(self._validation.examples // self._evaluation_batch(), tf.int64)
            tensors = [tf.convert_to_tensor(value) for value in start]
            loss, *metrics = self._passes[local](batches, tf.constant(epoch, tf.int64), tensors)
            if self._replicas == 1:
                return [value.numpy() for value in (loss, *metrics)]
            replica = self._first + local
            parts = [loss, *self._merging.contributions(metrics, replica)]
            mine = not self._alike or replica == 0
            return [value.numpy() if mine else np.zeros_like(value) for value in parts]

    def _pass_over(self, batches: tf.Tensor, epoch: tf.Tensor, sums: Sums, *, replica: int, local: int) -> Sums:
        """Every batch in turn that is this replica's."""
        batch = self._evaluation_batch()
        full, rest = divmod(self._validation.examples, batch)
        first, apart = (0, 1) if self._alike else (replica, self._replicas)
        trained, others = self._variables.read_trained(local), self._variables.read_others(local)
        state = others if self._alike else []

        def evaluated(index: tf.Tensor, count: int, sums: Sums, state: Any) -> tuple[Sums, Any]:
            rows = index * batch + tf.range(count, dtype=tf.int64)
            x, y, weight = arrays.take(self._data[local], rows)
            seed = random_state.epoch_seed(self._config.seed, 0, training=False)
            seeds = random_state.row_seeds(tf.constant(seed, tf.int64), rows)
            x, y = prepare(self._preprocess, x, y, seeds, training=False)
            layers = random_state.validation_seeds(self._bases, epoch, index)
            sums, after = self._model_step.evaluated(x, y, weight, layers, trained, state or others, sums)
            return sums, after if self._alike else []

        _, sums, state = tf.while_loop(
            lambda index, *_: index < batches,
            lambda index, sums, state: (index + apart, *evaluated(index, batch, sums, state)),
            [tf.constant(first, tf.int64), sums, state],
            parallel_iterations=1,
        )
        if rest and (self._alike or full % self._replicas == replica):
            sums, state = evaluated(tf.constant(full, tf.int64), rest, sums, state)
        if self._alike:
            self._variables.write_others(local, state)
        return sums

    def _evaluation_batch(self) -> int:
        """Examples of the validation split that are evaluated at once.

        Where a loss or a metric depends on what else is in the batch, as a mean over what is not masked, or state
        counts batches, it is the batch of Keras' `fit`: that of training. Else it is as large as is quick.
        """
        own = min(self._config.global_batch_size, self._validation.examples)
        if not self._look.independent or not self._merging.adds_up or self._alike:
            return own
        fitting = _BATCH_BYTES // max(self._validation.bytes_per_example, 1)
        return min(max(own, min(_BATCH, fitting)), self._validation.examples)
