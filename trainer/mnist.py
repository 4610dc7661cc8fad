"""The default experiment: MNIST and the MLP that classifies it. Copy this file to train something else.

An experiment is a module with `load_data` and `build_model`, and `preprocess` and `Flags` if it needs them. Nothing
else knows what is trained. docs/experiments.md says what else it may have.
"""

import dataclasses
from typing import Any

import numpy.typing as npt

from trainer.core.settings import setting
from trainer.training.data import idx_files

Split = tuple[npt.NDArray[Any], npt.NDArray[Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """The flags of this experiment, beside the trainer's own."""

    hidden_units: int = setting(512, "width of the hidden layer", minimum=1)
    activation: str = setting("relu", "of the hidden layer", choices=("relu", "sigmoid", "tanh"))
    dropout: float = setting(0.2, "share of hidden units left out in a step", minimum=0.0, below=1.0)


def load_data(config: Any) -> tuple[Split, Split]:
    """The examples to train on and those to validate on.

    Args:
      config: all flags, the trainer's and those above.

    Returns:
      Two pairs (images, labels): uint8 [count, 28, 28], 0 to 255, and uint8 [count], 0 to 9.

    Raises:
      DataError: a file is missing or damaged.
    """
    return idx_files.load(config.data_dir)


def preprocess(x: Any, y: Any, seed: Any, training: bool) -> tuple[Any, Any]:  # noqa: ARG001
    """Prepares one example, in TensorFlow, as part of the compiled step.

    Args:
      x: uint8 [28, 28].
      y: uint8 scalar.
      seed: int32 [2], another one for each example and epoch: for random choices, which this experiment makes none of.
      training: whether the example is trained on.

    Returns:
      Pixels float32 [28, 28], 0 to 1; and the label.
    """
    import tensorflow as tf

    return tf.cast(x, tf.float32) / 255.0, y


def build_model(config: Any) -> Any:
    """A Keras model whose last layer gives one probability a class; the trainer's flags compile it.

    With the default flags it has 407,050 parameters: 784 × 512 + 512 in the hidden layer, 512 × 10 + 10 in the last.
    """
    import keras

    return keras.Sequential(
        [
            keras.Input((28, 28)),  # [batch, height, width], 0 to 1
            keras.layers.Flatten(),
            keras.layers.Dense(config.hidden_units, activation=config.activation, name="hidden"),
            keras.layers.Dropout(config.dropout),
            # The outputs stay float32 in mixed precision: a loss of bfloat16 has two decimal digits.
            keras.layers.Dense(
                10, activation="sigmoid" if config.loss == "quadratic" else "softmax", dtype="float32", name="output"
            ),
        ],
        name="mlp",
    )
