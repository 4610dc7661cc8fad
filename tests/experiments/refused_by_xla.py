"""MNIST and a model that XLA is asked to compile, and cannot, in training or in evaluation."""

import dataclasses
from typing import Any

import keras
import tensorflow as tf

from trainer import mnist
from trainer.core.settings import setting

load_data, preprocess = mnist.load_data, mnist.preprocess


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """The experiment's own."""

    refused: str = setting("training", "where its layer leaves TensorFlow", choices=("training", "evaluation", "never"))
    asked: bool = setting(True, "whether the model is compiled with jit_compile=True")


class LeavesTensorFlow(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types.
    """Gives what it is given, in Python, which XLA cannot compile."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where

    def call(self, x: Any, training: bool = False) -> Any:
        """The inputs."""
        if self.where != ("training" if training else "evaluation"):
            return x
        return tf.stop_gradient(tf.ensure_shape(tf.numpy_function(lambda value: value, [x], tf.float32), x.shape))


def build_model(config: Any) -> Any:
    layers = [LeavesTensorFlow(config.refused), keras.layers.Flatten(), keras.layers.Dropout(0.2)]
    model = keras.Sequential([keras.Input((28, 28)), *layers, keras.layers.Dense(10, "softmax")])
    model.compile(
        "adam",
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile="auto" if not config.asked else True,
    )
    return model
