"""The update rules: Keras optimizers, applied in as few passes over memory as can be."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from trainer.core.config import Config

Update = Callable[[tf.Variable, tf.Tensor], None]


def build(config: Config) -> Any:
    """The optimizer that the flags ask for."""
    if config.optimizer == "sgd":
        return keras.optimizers.SGD(config.learning_rate, momentum=config.momentum, name="sgd")
    return keras.optimizers.Adam(config.learning_rate, name="adam")


def update_of(optimizer: Any) -> Update:
    """How the optimizer updates a variable (first argument) by its gradient (second) in the step that is traced."""
    if not isinstance(optimizer, keras.optimizers.Adam):
        return lambda variable, gradient: optimizer.update_step(gradient, variable, optimizer.learning_rate)
    # Keras' own update takes a dozen passes over memory for each variable, TensorFlow's operation one: half the time of
    # a small step. What depends on the step alone is computed once.
    count = tf.cast(optimizer.iterations.value + 1, tf.float32)
    first, second = tf.pow(optimizer.beta_1, count), tf.pow(optimizer.beta_2, count)
    rate = tf.cast(optimizer.learning_rate, tf.float32)

    def update(variable: tf.Variable, gradient: tf.Tensor) -> None:
        index = optimizer._get_variable_index(variable)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=optimizer._momentums[index].value.handle,
            v=optimizer._velocities[index].value.handle,
            beta1_power=first,
            beta2_power=second,
            lr=rate,
            beta1=optimizer.beta_1,
            beta2=optimizer.beta_2,
            epsilon=optimizer.epsilon,
            grad=gradient,
        )

    return update
