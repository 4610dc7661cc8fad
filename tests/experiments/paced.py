"""MNIST and its model, slowed down without any work, in a process that can be told to fail as a user's code would.

PACE in the environment: seconds that every step takes longer, so that tests can meet a run in its middle.
SIGUSR2: the process ends with sys.exit(1).
"""

import os
import signal
import sys
import time
from typing import Any

import keras
import tensorflow as tf

from trainer import mnist
from trainer.core.config import Config

load_data, preprocess, Flags = mnist.load_data, mnist.preprocess, mnist.Flags


@keras.saving.register_keras_serializable()
class Pace(keras.layers.Layer):  # type: ignore[misc]
    """Hands on what it is given, after a while."""

    def call(self, inputs: Any) -> Any:
        with tf.control_dependencies([tf.numpy_function(_wait, [], tf.float32)]):
            return tf.identity(inputs)


def build_model(config: Config) -> Any:
    signal.signal(signal.SIGUSR2, lambda *_: sys.exit(1))
    model = mnist.build_model(config)
    return keras.Sequential([keras.Input((28, 28)), Pace(), *model.layers], name="paced")


def _wait() -> Any:
    time.sleep(float(os.environ.get("PACE", "0")))
    return tf.constant(0.0).numpy()
