"""The optimizer's update as a function of tensors, for every optimizer of Keras'.

Keras' own `apply` on TensorFlow works on a strategy's variables, which neither XLA nor a step of several replicas can
use from inside. The same optimizer's methods run here on tensors instead: Keras has them for its other backends.
"""

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras.src.backend.tensorflow.optimizer import TFOptimizer
from keras.src.optimizers.base_optimizer import BaseOptimizer

from trainer.core.exit_codes import UsageError

_OF_BASE = (
    "_apply_weight_decay", "_backend_update_step", "_backend_increment_gradient_accumulators",
    "_overwrite_model_variables_with_average_value", "stateless_apply",
)  # fmt: skip
Gradient = Any  # A tensor; tf.IndexedSlices, where rows are looked up; or None.


class Update:
    """How an optimizer changes the variables that it was built for."""

    def __init__(self, optimizer: Any, trained: Sequence[Any]) -> None:
        self.optimizer, self._trained = optimizer, list(trained)
        self.variables = list(optimizer.variables)
        self._keys = {id(variable): _inner(optimizer)._var_key(variable) for variable in self._trained}
        self._plain_adam = _is_plain_adam(optimizer, self._trained)
        self.writes_all = bool(optimizer.use_ema) if hasattr(optimizer, "use_ema") else True

    def is_fused(self, gradients: Sequence[Gradient]) -> bool:
        """Whether `apply_fused` does what this optimizer does; of sparse gradients it does not."""
        return self._plain_adam and not any(isinstance(gradient, tf.IndexedSlices) for gradient in gradients)

    def apply(
        self, gradients: Sequence[Gradient], trained: Sequence[tf.Tensor], state: Sequence[tf.Tensor]
    ) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """The variables after an update.

        Args:
          gradients: of each trained variable, sparse where it looks up rows; None where the loss does not depend on it.
          trained: their values.
          state: those of the optimizer's own variables.

        Returns:
          New values of both.
        """
        with self._on_tensors(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Gradients do not exist")  # `ModelStep` has said which.
            after, state_after = self.optimizer.stateless_apply(list(state), list(gradients), list(trained))
        return list(after), list(state_after)

    def apply_fused(
        self, gradients: Sequence[Gradient], trained: Sequence[tf.Variable], state: Sequence[tf.Variable]
    ) -> None:
        """Adam alone: updates the variables in place by TensorFlow's own operation.

        Keras' update takes a dozen passes over memory for each variable, this operation one: half the time of a small
        step on a CPU.
        """
        optimizer = self.optimizer
        place = {id(variable): index for index, variable in enumerate(self.variables)}
        iterations = state[place[id(optimizer.iterations)]]
        done, rate = iterations.read_value(), optimizer._learning_rate
        count = tf.cast(done + 1, tf.float32)
        first, second = tf.pow(optimizer.beta_1, count), tf.pow(optimizer.beta_2, count)
        scheduled = isinstance(rate, keras.optimizers.schedules.LearningRateSchedule)
        rate = tf.cast(rate(done) if scheduled else state[place[id(rate)]].read_value(), tf.float32)
        for index, gradient in enumerate(gradients):
            if gradient is not None:
                tf.raw_ops.ResourceApplyAdam(
                    var=trained[index].handle,
                    m=state[place[id(optimizer._momentums[index])]].handle,
                    v=state[place[id(optimizer._velocities[index])]].handle,
                    beta1_power=first,
                    beta2_power=second,
                    lr=rate,
                    beta1=optimizer.beta_1,
                    beta2=optimizer.beta_2,
                    epsilon=optimizer.epsilon,
                    grad=gradient,
                )
        iterations.assign_add(1)

    @contextlib.contextmanager
    def _on_tensors(self) -> Iterator[None]:
        """Gives Keras' optimizers those of its methods that are made for tensors, while a step is traced."""
        methods = {name: getattr(BaseOptimizer, name) for name in _OF_BASE} | {
            "assign": _assign,
            "assign_add": _assign_add,
            "assign_sub": _assign_sub,
            "_backend_apply_gradients": _apply_gradients,
            "_var_key": lambda _, variable: self._keys[id(variable)],
        }
        before = {name: TFOptimizer.__dict__.get(name) for name in methods}
        for name, method in methods.items():
            setattr(TFOptimizer, name, method)
        try:
            yield
        finally:
            for name, own in before.items():
                if own is None:
                    delattr(TFOptimizer, name)
                else:
                    setattr(TFOptimizer, name, own)


def check(optimizer: Any) -> None:
    """Refuses an optimizer that cannot be run.

    Raises:
      UsageError: it is none of Keras' kind.
    """
    if not isinstance(optimizer, BaseOptimizer):
        raise UsageError(
            f"the model is compiled with the optimizer {type(optimizer).__name__}, which is none of Keras'; use one of "
            "keras.optimizers, or a subclass of keras.optimizers.Optimizer"
        )


def differs_from_fit(optimizer: Any) -> str | None:
    """What a user of `fit` should know of an optimizer, where it does not end as `fit` does."""
    if type(_inner(optimizer)).__name__ == "ScheduleFreeAdamW":  # Not every Keras has it.
        return (
            "ScheduleFreeAdamW is computed as published; Keras' fit with TensorFlow reads its momentum after having "
            "changed it, and ends elsewhere"
        )
    return None


def learning_rate(optimizer: Any) -> float:
    """The learning rate at the step that was made last."""
    return float(tf.convert_to_tensor(optimizer.learning_rate))


def _inner(optimizer: Any) -> Any:
    return getattr(optimizer, "inner_optimizer", optimizer)


def _assign(_: Any, variable: Any, value: Any) -> None:
    """As TensorFlow's optimizers have it: of sparse values only the rows that are there."""
    if isinstance(value, tf.IndexedSlices):
        value = tf.tensor_scatter_nd_update(variable.value, value.indices[:, tf.newaxis], value.values)
    variable.assign(tf.cast(value, variable.dtype))


def _assign_add(_: Any, variable: Any, value: Any) -> None:
    if isinstance(value, tf.IndexedSlices):
        added = tf.cast(value.values, variable.dtype)
        variable.assign(tf.tensor_scatter_nd_add(variable.value, value.indices[:, tf.newaxis], added))
    else:
        variable.assign(variable.value + tf.cast(value, variable.dtype))


def _assign_sub(_: Any, variable: Any, value: Any) -> None:
    if isinstance(value, tf.IndexedSlices):
        taken = tf.cast(value.values, variable.dtype)
        variable.assign(tf.tensor_scatter_nd_sub(variable.value, value.indices[:, tf.newaxis], taken))
    else:
        variable.assign(variable.value - tf.cast(value, variable.dtype))


def _apply_gradients(self: Any, gradients: Any, trained: Any) -> None:
    """`_backend_apply_gradients` without conditions: what they would choose between is computed, and one is taken."""
    steps = self.gradient_accumulation_steps
    taken: tf.Tensor | None = None
    before: list[tuple[Any, tf.Tensor]] = []
    if steps:
        taken = tf.equal((tf.convert_to_tensor(self._iterations.value) + 1) % steps, 0)
        sums = [self._accumulated_gradients[self._get_variable_index(variable)] for variable in trained]
        before = [(variable, tf.convert_to_tensor(variable.value)) for variable in (*trained, *self.variables)]
        added = [gradient + total.value for gradient, total in zip(gradients, sums, strict=True)]
        gradients = [total / steps for total in added]
    gradients = self._clip_gradients(gradients)
    self._apply_weight_decay(trained)
    self._backend_update_step(gradients, trained, self.learning_rate)
    if taken is not None:
        for variable, value in before:
            variable.assign(tf.where(taken, variable.value, value))
        for total, value in zip(sums, added, strict=True):
            total.assign(tf.where(taken, tf.zeros_like(value), value))
    if self.use_ema:
        self._update_model_variables_moving_average(self._trainable_variables)
        if self.ema_overwrite_frequency:
            now = tf.equal((tf.convert_to_tensor(self.iterations) + 1) % self.ema_overwrite_frequency, 0)
            for variable, average in zip(self._trainable_variables, self._model_variables_moving_average, strict=True):
                variable.assign(tf.where(now, average.value, variable.value))


def _is_plain_adam(optimizer: Any, trained: Sequence[Any]) -> bool:
    """Whether an update is what TensorFlow's one operation for Adam does, and no more."""
    return (
        type(optimizer) is keras.optimizers.Adam
        and not optimizer.amsgrad
        and isinstance(optimizer._learning_rate, keras.Variable | keras.optimizers.schedules.LearningRateSchedule)
        and not any(
            (
                optimizer.weight_decay, optimizer.clipnorm, optimizer.clipvalue, optimizer.global_clipnorm,
                optimizer.use_ema, optimizer.gradient_accumulation_steps, optimizer.loss_scale_factor,
            )
        )
        and all(
            variable.dtype == "float32" and variable.constraint is None and not variable.overwrite_with_gradient
            for variable in trained
        )
    )  # fmt: skip
