"""The compiled part: many steps of training, or a pass over the validation split, in one call.

A global batch is a slice of the epoch's order, and every replica takes its share of that slice, so any number of
replicas sees the same batches in the same order. Where the examples come from, `feeding` knows.

One replica runs a chunk of steps as one computation, which XLA may compile as a whole. Of several, each computes its
gradients, all of them are summed in one collective, and each makes the same update.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from trainer.core.config import Config
from trainer.training.data import random_state
from trainer.training.data.feeding import Shares, Split, feed
from trainer.training.data.read_ahead import Readers
from trainer.training.evaluation import Evaluation
from trainer.training.hardware import collective
from trainer.training.model.experiment import Preprocess
from trainer.training.model.first_look import FirstLook
from trainer.training.model.merging import Merging
from trainer.training.model.model_step import ModelStep, traced_alone
from trainer.training.model.preparation import prepare
from trainer.training.model.scores import Scores, Sums
from trainer.training.model.sharing import Sharing
from trainer.training.model.update import Update
from trainer.training.nests import Nest
from trainer.training.state.variables import Variables


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a call of `Trainer.run` did."""

    step: int  # Completed steps of the run.
    sums: Sums  # Over the examples of the epoch so far.
    finite: bool  # Whether every loss was.
    seconds: float  # Of the steps alone, without waiting for data.


def shares(examples: int, replicas: int) -> list[int]:
    """Splits a batch among replicas into shares that differ by at most one.

    >>> shares(10, 3)
    [4, 3, 3]
    """
    return [examples // replicas + (replica < examples % replicas) for replica in range(replicas)]


class Trainer:
    """Trains and evaluates a model; knows nothing of files or time."""

    def __init__(
        self,
        *,
        config: Config,
        strategy: tf.distribute.Strategy,
        model: Any,
        look: FirstLook,
        train: Split,
        validation: Split | None,
        preprocess: Preprocess | None,
        readers: Readers,
        steps_per_epoch: int,
        jit_compile: bool,
    ) -> None:
        """Takes a model that is compiled and built, and moves data in memory to the devices.

        Raises:
          UsageError: the model cannot be trained by this number of replicas.
        """
        self._config, self._strategy, self._model, self._look = config, strategy, model, look
        self._preprocess = preprocess
        self.steps_per_epoch = steps_per_epoch
        self._replicas = strategy.num_replicas_in_sync
        self._shares = shares(config.global_batch_size, self._replicas)
        self._variables, self.scores = Variables(strategy, model), Scores(model)
        self._update = Update(model.optimizer, self._variables.trained)
        several = self._replicas > 1
        self._merging = Merging(model, self.scores, look, self._replicas)
        self._sharing = Sharing(model, self.scores, look, config.global_batch_size) if several else None
        self._model_step = ModelStep(model, self._variables, self.scores, self._sharing, look)
        devices = list(strategy.extended.worker_devices) if several else [None]
        first = collective.first_replica(strategy, len(devices))
        self._of_batch = Shares(
            batch=config.global_batch_size, of_replicas=self._shares, first=first, devices=devices
        )  # fmt: skip
        self.feed = feed(config, train, self._of_batch, steps_per_epoch, readers)
        self._epoch_seed = tf.Variable(0, dtype=tf.int64, trainable=False, name="epoch_seed")
        self._bases = random_state.layer_bases(config.seed, len(self._variables.seeds))
        self.jit_compile = jit_compile and not (several and look.synchronized)
        self._build()
        self.evaluation = (
            None
            if validation is None
            else Evaluation(
                config=config,
                strategy=strategy,
                look=look,
                validation=validation,
                preprocess=preprocess,
                model_step=self._model_step,
                variables=self._variables,
                scores=self.scores,
                merging=self._merging,
                bases=self._bases,
                devices=devices,
                readers=readers,
                jit_compile=self.jit_compile,
            )
        )

    def _build(self) -> None:
        """Makes the functions that TensorFlow compiles for steps."""
        several, step = self._replicas > 1, self._model_step
        self._gradients_of: dict[int, Callable[..., Any]] = {}
        self._counts_of: dict[int, Callable[..., Any]] = {}
        for share in set(self._shares) if self._sharing else ():
            *arguments, divisors = self._specs(share)
            self._gradients_of[share] = step.gradients if self._look.synchronized else traced_alone(
                step.gradients, [*arguments, divisors], jit_compile=self.jit_compile
            )  # fmt: skip
            if self._sharing and self._sharing.asks_divisors:
                self._counts_of[share] = traced_alone(step.counts, arguments, jit_compile=self.jit_compile)
        # By XLA wherever the steps are: it draws other random numbers than plain TensorFlow.
        ready = functools.partial(prepare, self._preprocess, training=True)
        apart = several and self.jit_compile and self._preprocess is not None
        self._prepare = tf.function(ready, autograph=False, jit_compile=True) if apart else ready
        # With several replicas XLA compiles only what lies between two collectives: of these it takes NCCL's at most.
        whole = True if self.jit_compile and not several else None
        self._run = tf.function(self._steps_together if several else self._steps, autograph=False, jit_compile=whole)

    def without_xla(self) -> None:
        """From now on runs as plain TensorFlow."""
        self.jit_compile = False
        self._build()
        if self.evaluation:
            self.evaluation.without_xla()

    def start_epoch(self, epoch: int) -> None:
        """Sets the order and the examples' seeds of an epoch (from 0), functions of the seed and the epoch alone."""
        self.feed.start_epoch(epoch)
        self._epoch_seed.assign(random_state.epoch_seed(self._config.seed, epoch, training=True))

    def reach(self, step: int, until: int) -> int:
        """How far, at most to step `until`, `run` gets from `step` on; waits until it can begin."""
        return self.feed.at(step, until)[1]

    def run(self, step: int, until: int, sums: Sequence[Any]) -> Outcome:
        """Trains from `step` until step `until`, which is of the same epoch, or as far as examples were read ahead.

        All workers must call it with the same arguments, and all get equally far. When the loss is no longer finite it
        returns after the step that made it so.

        Raises:
          DataError: an example cannot be read or trained on.
        """
        given, until = self.feed.at(step, until)
        began = time.monotonic()
        steps = tf.constant(step, tf.int64), tf.constant(until, tf.int64)
        last, finite, after = self._run(*steps, _tensors(sums), given)
        step, good = int(last), bool(finite)  # Which waits for a GPU.
        return Outcome(step=step, sums=list(after), finite=good, seconds=time.monotonic() - began)

    def graph(self) -> tf.Graph:
        """The graph of the compiled steps.

        Raises:
          UsageError: a weight would not be trained; see `ModelStep.check_trained`.
        """
        zero = tf.constant(0, tf.int64)
        graph = self._run.get_concrete_function(zero, zero, _tensors(self.scores.start()), self.feed.specs()).graph
        self._model_step.check_trained()
        return graph

    @property
    def known_variables(self) -> set[int]:
        """What the steps may read and write, by `id`."""
        own = (*self.feed.variables, self._epoch_seed)
        locals_ = (one for value in own for one in self._strategy.experimental_local_results(value))
        return {*map(id, own), *map(id, locals_), *self._variables.ids}

    def finalize(self) -> None:
        """What Keras does at the end of a fit: averages of the weights take their place, if the optimizer keeps any."""
        with self._strategy.scope():
            self._model.optimizer.finalize_variable_values(self._model.trainable_variables)

    def _loop(self, step: tf.Tensor, until: tf.Tensor, sums: Sums, one: Callable[..., Any]) -> Any:
        return tf.while_loop(
            lambda step, finite, _: (step < until) & finite,
            lambda step, _, sums: (step + 1, *one(step, sums)),
            [step, tf.constant(True), sums],
            parallel_iterations=1,
        )

    def _steps(self, step: tf.Tensor, until: tf.Tensor, sums: Sums, given: Any) -> Any:
        """A chunk of steps of one replica."""

        def one(step: tf.Tensor, sums: Sums) -> tuple[tf.Tensor, Sums]:
            inputs = *self._inputs(given, step, 0, 0, sums[1:]), None
            gradients, after, loss, metrics = self._model_step.gradients(*inputs)
            self._apply(0, gradients, after)
            examples = self._config.global_batch_size
            return tf.math.is_finite(loss), [sums[0] + tf.cast(loss, tf.float64) * examples, *metrics]

        return self._loop(step, until, sums, one)

    def _steps_together(self, step: tf.Tensor, until: tf.Tensor, sums: Sums, given: Any) -> Any:
        """A chunk of steps of several replicas."""

        def one(step: tf.Tensor, sums: Sums) -> tuple[tf.Tensor, Sums]:
            finite, after = self._strategy.run(lambda *args: self._replica_step(given, *args), args=(step, sums))
            return self._first(finite), [self._first(value) for value in after]

        return self._loop(step, until, sums, one)

    def _replica_step(self, given: Any, step: tf.Tensor, sums: Sums) -> tuple[tf.Tensor, Sums]:
        """One replica's part of a step."""
        context, replica, local = collective.here(len(self._of_batch.devices))
        share, batch = self._shares[replica], self._config.global_batch_size
        inputs = self._inputs(given, step, replica, local, self._merging.begun(sums))
        assert self._sharing is not None  # noqa: S101
        divisors = tf.zeros([self._sharing.losses])
        if self._sharing.asks_divisors:
            divisors = context.all_reduce(tf.distribute.ReduceOp.SUM, self._counts_of[share](*inputs))
        gradients, after, loss, metrics = self._gradients_of[share](*inputs, divisors)
        # One list is packed into one collective: what is measured travels with the gradients and costs nothing.
        changed = [collective.contribution(value, share / batch, first=replica == 0) for value in after]
        measured = self._merging.contributions(metrics, replica, share / batch)
        parts = [*gradients, *changed, tf.cast(loss, tf.float32), *measured]
        summed = iter(collective.summed(context, [part for part in parts if part is not None]))
        received = [None if part is None else next(summed) for part in parts]
        cut = len(gradients), len(gradients) + len(changed)
        gradients, after, (loss, *metrics) = received[: cut[0]], received[cut[0] : cut[1]], received[cut[1] :]
        update = lambda gradients, after: self._apply(local, gradients, after)  # noqa: E731
        (tf.function(update, autograph=False, jit_compile=True) if self.jit_compile else update)(gradients, after)
        joined = self._merging.joined(sums[1:], metrics)
        return tf.math.is_finite(loss), [sums[0] + tf.cast(loss, tf.float64) * batch, *joined]

    def _inputs(self, given: Any, step: tf.Tensor, replica: int, local: int, metrics: Sums) -> tuple[Any, ...]:
        """What `ModelStep.gradients` takes, but for the divisors."""
        x, y, weight, rows = self.feed.take(given, step, replica, local)
        x, y = self._prepare(x, y, random_state.row_seeds(self._epoch_seed, rows))
        variables = self._variables
        state = variables.read_optimizer(local) if self._model_step.scales_loss else []
        seeds = random_state.layer_seeds(self._bases, step, replica)
        return x, y, weight, seeds, variables.read_trained(local), variables.read_others(local), state, metrics

    def _specs(self, share: int) -> list[Any]:
        """The shapes and types of what `ModelStep.gradients` takes, of a replica with that share."""

        def batch(nest: Nest) -> Nest:
            return tf.nest.map_structure(
                lambda leaf: None if leaf is None else tf.TensorSpec([share, *leaf.shape[1:]], leaf.dtype), nest
            )

        def values(variables: Sequence[Any]) -> list[tf.TensorSpec]:
            return [tf.TensorSpec(variable.shape, variable.dtype) for variable in variables]

        look, variables = self._look, self._variables
        state = variables.optimizer if self._model_step.scales_loss else []
        nests = batch(look.x), batch(look.y), batch(look.weight)
        of_model = values(variables.seeds), values(variables.trained), values(variables.others)
        divisors = tf.TensorSpec([self._sharing.losses if self._sharing else 0], tf.float32)
        return [*nests, *of_model, values(state), values(self.scores.variables), divisors]

    def _apply(self, local: int, gradients: Sequence[tf.Tensor | None], after: Sequence[tf.Tensor | None]) -> None:
        """Updates one replica's variables: first what the forward pass has assigned, then by the gradients."""
        variables = self._variables
        others = len(variables.others)
        variables.write_trained(local, after[others:])
        if self._update.is_fused(gradients):
            self._update.apply_fused(gradients, variables.of_trained(local), variables.of_optimizer(local))
        else:
            values = variables.read_trained(local), variables.read_optimizer(local)
            trained, state = self._update.apply(gradients, *values)
            changed = [None if gradient is None else value for gradient, value in zip(gradients, trained, strict=True)]
            variables.write_trained(local, trained if self._update.writes_all else changed)
            variables.write_optimizer(local, state)
        variables.write_others(local, after[:others])

    def _first(self, value: Any) -> tf.Tensor:
        return self._strategy.experimental_local_results(value)[0]


def _tensors(sums: Sequence[Any]) -> Sums:
    return [tf.convert_to_tensor(value) for value in sums]
