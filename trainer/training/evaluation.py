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
          devices: of this process's replicas.
          jit_compile: whether XLA compiles the pass.
        """
        self._config, self._strategy, self._look = config, strategy, look
        self._validation, self._preprocess = validation, preprocess
        self._model_step, self._variables, self._scores = model_step, variables, scores
        self._replicas = strategy.num_replicas_in_sync
        self._devices, self._data = list(devices), [validation.on(device) for device in devices]
        self._workers_sum = WorkersSum(strategy, len(self._data))
        first = collective.first_replica(strategy, len(self._data))
        self._passes = [
            tf.function(
                functools.partial(self._pass_over, replica=first + local, local=local),
                autograph=False,
                jit_compile=True if jit_compile else None,
            )
            for local in range(len(self._data))
        ]

    def run(self) -> dict[str, float]:
        """The loss and the metrics, by name: each replica passes over batches of its own, then all are added up."""
        zeros = self._scores.zeros()
        sums = [self._pass_of(local, zeros) for local in range(len(self._data))]
        total = [np.sum(parts, axis=0) for parts in zip(*sums, strict=True)]
        return self._scores.values(self._workers_sum.of(total), self._validation.examples)

    def _pass_of(self, local: int, zeros: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        with tf.device(self._devices[local]):
            batches = tf.constant(self._validation.examples // self._evaluation_batch(), tf.int64)
            sums = self._passes[local](batches, [tf.convert_to_tensor(value) for value in zeros])
            return [value.numpy() for value in sums]

    def _pass_over(self, batches: tf.Tensor, sums: Sums, *, replica: int, local: int) -> Sums:
        """Every batch in turn that is this replica's."""
        batch = self._evaluation_batch()
        full, rest = divmod(self._validation.examples, batch)
        values = self._variables.read_trained(local), self._variables.read_others(local)

        def evaluated(first: tf.Tensor, count: int, sums: Sums) -> Sums:
            x, y, weight = arrays.part(self._data[local], first, count)
            seed = random_state.epoch_seed(self._config.seed, 0, training=False)
            rows = first + tf.range(count, dtype=tf.int64)
            seeds = random_state.row_seeds(tf.constant(seed, tf.int64), rows)
            x, y = prepare(self._preprocess, x, y, seeds, training=False)
            return self._model_step.evaluated(x, y, weight, *values, sums)

        _, sums = tf.while_loop(
            lambda index, _: index < batches,
            lambda index, sums: (index + self._replicas, evaluated(index * batch, batch, sums)),
            [tf.constant(replica, tf.int64), sums],
            parallel_iterations=1,
        )
        if rest and full % self._replicas == replica:
            sums = evaluated(tf.constant(full * batch, tf.int64), rest, sums)
        return sums

    def _evaluation_batch(self) -> int:
        """Examples of the validation split that are evaluated at once.

        Where a loss depends on what else is in the batch, as a mean over what is not masked, it is the batch of Keras'
        `fit`: that of training. Else it is as large as is quick.
        """
        own = min(self._config.global_batch_size, self._validation.examples)
        if not self._look.independent:
            return own
        fitting = _BATCH_BYTES // max(self._validation.bytes_per_example, 1)
        return min(max(own, min(_BATCH, fitting)), self._validation.examples)
