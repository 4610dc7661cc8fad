"""The update rules, as Keras optimizers."""

from typing import Any

import keras
import tensorflow as tf

from trainer.config import Config


class FusedAdam(keras.optimizers.Adam):  # type: ignore[misc]  # Keras ships no types.
    """Keras' Adam, updating a variable in one pass over memory instead of a dozen."""

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """Applies one update, equal to Adam's own up to rounding."""
        index = self._get_variable_index(variable)
        count = tf.cast(self.iterations + 1, variable.dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.pow(tf.cast(self.beta_1, variable.dtype), count),
            beta2_power=tf.pow(tf.cast(self.beta_2, variable.dtype), count),
            lr=tf.cast(learning_rate, variable.dtype),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )


def build(config: Config) -> Any:
    """The optimizer that the flags ask for."""
    if config.optimizer == "sgd":
        return keras.optimizers.SGD(config.learning_rate, momentum=config.momentum, name="sgd")
    return FusedAdam(config.learning_rate, name="adam")


def plain(config: Config) -> Any:
    """The same as Keras ships it, for a saved model that loads without this package."""
    return keras.optimizers.Adam(config.learning_rate) if config.optimizer == "adam" else build(config)
