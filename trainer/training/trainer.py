"""The compiled part: many steps of training, or a pass over the validation split, in one call.

Each worker holds the whole data set on its device. A global batch is a slice of the epoch's order, and every replica
takes its share of that slice, so any number of replicas sees the same batches in the same order.
"""

import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from trainer.core.config import Config
from trainer.training import losses as objective
from trainer.training import optimizers

_EVALUATION_BATCH = 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a call of `Trainer.run` did."""

    step: int  # Completed steps of the run.
    loss_sum: float  # Over the examples of the epoch so far.
    hits: float
    pause_wishes: int  # Workers that wish to do something else between two steps.
    stop_wishes: int  # Workers that wish the run to stop after this step.


def shares(examples: int, replicas: int) -> list[int]:
    """Splits a batch among replicas into shares that differ by at most one.

    >>> shares(10, 3)
    [4, 3, 3]
    """
    return [examples // replicas + (replica < examples % replicas) for replica in range(replicas)]


class Trainer:
    """Trains and evaluates a model; knows nothing of files or time.

    Another thread may read `position` and set `pause_wish` and `stop_wish` while `run` runs.
    """

    def __init__(
        self, *, config: Config, strategy: tf.distribute.Strategy, model: Any, optimizer: Any, data: Any, workers: int
    ) -> None:
        """Moves the data to the device; `data` is what an experiment's load_data returned."""
        self._replicas_per_worker = strategy.num_replicas_in_sync // workers
        self._config, self._strategy, self._model, self._optimizer = config, strategy, model, optimizer
        (features, labels), (test_features, test_labels) = data
        self._features, self._labels = tf.constant(features), tf.constant(labels.astype(np.int32))
        self._test_features, self._test_labels = tf.constant(test_features), tf.constant(test_labels.astype(np.int32))
        self._from_logits = objective.gives_logits(model)
        self._shares = shares(config.global_batch_size, strategy.num_replicas_in_sync)
        self.steps_per_epoch = len(features) // config.global_batch_size
        with tf.device("CPU"):
            self._order = tf.Variable(np.arange(len(features), dtype=np.int32), trainable=False)
            self.position = tf.Variable(np.zeros(3), trainable=False)  # step, loss sum, hits
            self.pause_wish = tf.Variable(0.0, trainable=False)
            self.stop_wish = tf.Variable(0.0, trainable=False)
        self._run = tf.function(
            self._steps,
            autograph=False,
            input_signature=[
                tf.TensorSpec([], tf.int64),
                tf.TensorSpec([], tf.int64),
                tf.TensorSpec([2], tf.float64),
            ],
        )
        self._evaluate = tf.function(self._pass_over_test, autograph=False)

    def start_epoch(self, epoch: int) -> None:
        """Sets the order of an epoch (from 0), a function of the seed and the epoch alone."""
        order = np.random.default_rng([self._config.seed, epoch]).permutation(len(self._features))
        self._order.assign(order.astype(np.int32))

    def run(self, step: int, until: int, loss_sum: float, hits: float) -> Outcome:
        """Trains from `step` until step `until`, which is of the same epoch, or until a worker wishes to pause or stop.

        All workers must call it with the same arguments; all return after the same step. When the loss is no longer
        finite they return after the step that made it so.
        """
        position = self._run(
            tf.constant(step, tf.int64), tf.constant(until, tf.int64), tf.constant([loss_sum, hits], tf.float64)
        )
        step_, sums, wishes = (value.numpy() for value in position)
        return Outcome(
            step=int(step_),
            loss_sum=float(sums[0]),
            hits=float(sums[1]),
            pause_wishes=int(wishes[0]),
            stop_wishes=int(wishes[1]),
        )

    def seek(self, step: int, loss_sum: float, hits: float) -> None:
        """Sets `position` after a resume."""
        self.position.assign([step, loss_sum, hits])

    def graph(self) -> tf.Graph:
        """The graph of the compiled steps."""
        return self._run.get_concrete_function().graph

    def evaluate(self) -> tuple[float, float]:
        """The mean loss and the accuracy over the validation split."""
        loss_sum, hits = self._evaluate().numpy() / len(self._test_features)
        return float(loss_sum), float(hits)

    def _steps(self, step: tf.Tensor, until: tf.Tensor, sums: tf.Tensor) -> Any:
        def goes_on(step: tf.Tensor, sums: tf.Tensor, wishes: tf.Tensor) -> tf.Tensor:
            return (step < until) & tf.equal(tf.reduce_sum(wishes), 0.0) & tf.math.is_finite(sums[0])

        def one(step: tf.Tensor, sums: tf.Tensor, wishes: tf.Tensor) -> Any:
            del wishes
            gradients, others, seen = self._strategy.run(self._replica_step, args=(step,))
            self._update(gradients, others)
            seen = tf.cast(self._strategy.experimental_local_results(seen)[0], tf.float64)
            step, sums = step + 1, sums + seen[:2]
            with tf.device("CPU"):
                self.position.assign(tf.concat([[tf.cast(step, tf.float64)], sums], 0))
            return step, sums, seen[2:]

        return tf.while_loop(goes_on, one, [step, sums, tf.zeros([2], tf.float64)], parallel_iterations=1)

    def _replica_step(self, step: tf.Tensor) -> tuple[list[tf.Tensor], list[tf.Tensor], tf.Tensor]:
        """One replica's part of a step, summed over all replicas.

        Returns:
          The gradients of the global batch's mean loss; new values of what is not trained (a batch normalisation's
          means); and [loss sum, hits, workers that wish to pause, workers that wish to stop].
        """
        context = tf.distribute.get_replica_context()
        replica = _replica(context)
        begin, share = sum(self._shares[:replica]), self._shares[replica]
        first = tf.cast(step % self.steps_per_epoch, tf.int32) * self._config.global_batch_size + begin
        rows = tf.ensure_shape(self._order[first : first + share], [share])
        features, labels = _prepared(tf.gather(self._features, rows)), tf.gather(self._labels, rows)
        seed = tf.cast(step * self._strategy.num_replicas_in_sync + replica, tf.int32)
        gradients, others, loss_sum, hits = self._gradients(features, labels, seed)
        # Every worker counts once, whatever the number of its replicas.
        counts = float(replica % self._replicas_per_worker == 0)
        with tf.device("CPU"):
            wishes = tf.stack([self.pause_wish.read_value(), self.stop_wish.read_value()]) * counts
        seen = tf.concat([tf.stack([loss_sum, hits]), wishes], 0)
        if self._strategy.num_replicas_in_sync == 1:
            return gradients, others, seen
        # One list is packed into one collective: what is agreed on travels with the gradients and costs nothing.
        *reduced, seen = context.all_reduce(tf.distribute.ReduceOp.SUM, [*gradients, *others, seen])
        return reduced[: len(gradients)], reduced[len(gradients) :], seen

    def _gradients(self, features: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> Any:
        trained = [tf.convert_to_tensor(variable.value) for variable in self._model.trainable_variables]
        fixed = [tf.convert_to_tensor(variable.value) for variable in self._model.non_trainable_variables]
        compiled = tf.function(self._forward_and_back, autograph=False, jit_compile=True)
        compute = compiled if self._config.jit_compile else self._forward_and_back
        return compute(features, labels, seed, trained, fixed)

    def _forward_and_back(
        self, features: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, trained: Any, fixed: Any
    ) -> Any:
        variables = self._model.non_trainable_variables
        fixed = [
            # Random layers draw from a function of (seed, layer, step, replica), never from hidden state.
            tf.stack([tf.constant(_layer_seed(self._config.seed, index), value.dtype), tf.cast(seed, value.dtype)])
            if _is_seed(variable)
            else value
            for index, (variable, value) in enumerate(zip(variables, fixed, strict=True))
        ]
        with tf.GradientTape() as tape:
            tape.watch(trained)
            outputs, fixed = self._model.stateless_call(trained, fixed, features, training=True)
            losses = self._losses(labels, outputs)
            loss_sum = tf.reduce_sum(losses)
            # The mean over the global batch, not the share: so the sum over replicas is the same however it is split.
            objective_ = loss_sum / self._config.global_batch_size
        gradients = tape.gradient(objective_, trained, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        weight = labels.shape[0] / self._config.global_batch_size
        others = [value * weight for variable, value in zip(variables, fixed, strict=True) if _is_averaged(variable)]
        return gradients, others, loss_sum, objective.hits(labels, outputs)

    def _update(self, gradients: Any, others: Any) -> None:
        """Applies summed gradients, on every replica."""
        update, extended = optimizers.update_of(self._optimizer), self._strategy.extended
        for variable, gradient in zip(self._model.trainable_variables, gradients, strict=True):
            extended.update(variable.value, update, args=(gradient,), group=False)
        averaged = [variable for variable in self._model.non_trainable_variables if _is_averaged(variable)]
        for variable, value in zip(averaged, others, strict=True):
            extended.update(variable.value, lambda variable, value: variable.assign(value), args=(value,), group=False)
        self._optimizer.iterations.assign_add(1)

    def _losses(self, labels: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        return objective.losses(self._config.loss, labels, outputs, from_logits=self._from_logits)

    def _pass_over_test(self) -> tf.Tensor:
        return self._strategy.experimental_local_results(self._strategy.run(self._replica_evaluation))[0]

    def _replica_evaluation(self) -> tf.Tensor:
        """[loss sum, hits] over the validation split, of which each replica takes a contiguous share."""
        context = tf.distribute.get_replica_context()
        replica = _replica(context)
        parts = shares(len(self._test_features), self._strategy.num_replicas_in_sync)
        begin, share = sum(parts[:replica]), parts[replica]
        batch = min(_EVALUATION_BATCH, max(1, share))

        def evaluated(first: tf.Tensor, count: int) -> tf.Tensor:
            labels = tf.ensure_shape(self._test_labels[first : first + count], [count])
            features = tf.ensure_shape(
                self._test_features[first : first + count], [count, *self._test_features.shape[1:]]
            )
            outputs = self._model(_prepared(features), training=False)
            loss = tf.reduce_sum(self._losses(labels, outputs))
            return tf.cast(tf.stack([loss, objective.hits(labels, outputs)]), tf.float64)

        _, sums = tf.while_loop(
            lambda first, _: first + batch <= begin + share,
            lambda first, sums: (first + batch, sums + evaluated(first, batch)),
            [tf.constant(begin), tf.zeros([2], tf.float64)],
            parallel_iterations=1,
        )
        if share % batch:
            sums += evaluated(tf.constant(begin + share - share % batch), share % batch)
        return context.all_reduce(tf.distribute.ReduceOp.SUM, sums)


def _replica(context: tf.distribute.ReplicaContext) -> int:
    return int(tf.get_static_value(context.replica_id_in_sync_group))


def _prepared(features: tf.Tensor) -> tf.Tensor:
    return tf.cast(features, tf.float32) / 255.0 if features.dtype == tf.uint8 else tf.cast(features, tf.float32)


def _is_seed(variable: Any) -> bool:
    return bool(variable.name == "seed_generator_state")


def _is_averaged(variable: Any) -> bool:
    """Whether a variable that is not trained changes in training and is a mean over the batch."""
    return not _is_seed(variable) and keras.backend.is_float_dtype(variable.dtype)


def _layer_seed(seed: int, index: int) -> int:
    """A seed for the random layer at `index` among the variables that are not trained; fits in 31 bits."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1)[0] >> 2)
