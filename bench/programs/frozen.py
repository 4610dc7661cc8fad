"""An experiment: two layers of 1,500 units that are not trained, below one that is."""

import dataclasses
from typing import Any

import keras
import numpy as np

from trainer.core.config import Config
from trainer.core.settings import setting

FEATURES, UNITS = 784, 1500


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """The experiment's own."""

    layers: str = setting("frozen", "what the two layers are", choices=("frozen", "constants", "trained"))


class Constant(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types.
    """A dense layer whose kernel is no variable."""

    def __init__(self, kernel: Any) -> None:
        super().__init__()
        self.kernel = kernel

    def call(self, x: Any) -> Any:
        """The outputs: float32 [batch, units]."""
        return keras.ops.relu(keras.ops.matmul(x, self.kernel))


def load_data(_: Config) -> Any:
    random = np.random.default_rng(0)
    return (random.normal(size=(8192, FEATURES)).astype("float32"), random.integers(0, 10, 8192)), None


def build_model(config: Any) -> Any:
    if config.layers == "constants":
        random = np.random.default_rng(1)
        kernels = [(random.normal(size=(size, UNITS)) * size**-0.5).astype("float32") for size in (FEATURES, UNITS)]
        layers: list[Any] = [Constant(kernel) for kernel in kernels]
    else:
        trained = config.layers == "trained"
        layers = [keras.layers.Dense(UNITS, "relu", use_bias=False, trainable=trained) for _ in range(2)]
    model = keras.Sequential([keras.Input((FEATURES,)), *layers, keras.layers.Dense(10, "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    return model
