"""MNIST and its model, with an evaluation of twenty batches, each of which may take long.

EVALUATION in the environment: seconds that each takes. With --counts the model counts what it has evaluated, as part of
its state.
"""

import dataclasses
import os
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from trainer import mnist
from trainer.core.config import Config
from trainer.core.settings import setting

BATCHES = 20
EVALUATES = "a batch is evaluated"  # Said for each.

preprocess = mnist.preprocess


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags(mnist.Flags):
    """Those of MNIST's, and one more."""

    counts: bool = setting(False, "count what is evaluated")


@keras.saving.register_keras_serializable()
class Slow(keras.layers.Layer):  # type: ignore[misc]
    """Hands on what it is given; in an evaluation after a while."""

    def __init__(self, *, counts: bool, **more: Any) -> None:
        super().__init__(**more)
        self.counts = counts
        if counts:
            self.count = self.add_weight(shape=(), initializer="zeros", trainable=False, name="count")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "counts": self.counts}

    def call(self, inputs: Any, training: bool = False) -> Any:
        if training:
            return inputs
        if self.counts:
            self.count.assign(self.count + 1.0)
        with tf.control_dependencies([tf.numpy_function(_wait, [], tf.float32)]):
            return tf.identity(inputs)


def load_data(config: Config) -> Any:
    """MNIST's, of whose validation there are as many examples as make twenty batches, the last of them short."""
    train, validation = mnist.load_data(config)
    batch = config.global_batch_size if config.counts else 1000  # type: ignore[attr-defined]
    rows = np.arange(BATCHES * batch - batch // 2) % len(validation[0])
    return train, tuple(part[rows] for part in validation)


def build_model(config: Config) -> Any:
    """MNIST's, slowed down."""
    model = mnist.build_model(config)
    slow = Slow(counts=config.counts)  # type: ignore[attr-defined]
    return keras.Sequential([keras.Input((28, 28)), slow, *model.layers], name="slow")


def _wait() -> Any:
    print(EVALUATES, flush=True)
    time.sleep(float(os.environ.get("EVALUATION", "0")))
    return np.float32(0)
