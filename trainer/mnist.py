"""The default experiment: MNIST and the MLP that classifies it. Copy this file to train something else.

An experiment is a module with the two functions below; nothing else knows what is trained.
"""

from typing import Any

import numpy.typing as npt

from trainer.core.config import Config
from trainer.training import idx_files

Split = tuple[npt.NDArray[Any], npt.NDArray[Any]]


def load_data(config: Config) -> tuple[Split, Split]:
    """The examples to train on and those to validate on.

    Returns:
      Two pairs (features, labels). Features [count, ...]: uint8 are pixels, divided by 255 before the model sees them;
      anything else is given to the model as float32. Labels [count]: whole numbers from 0.

    Raises:
      DataError: a file is missing or damaged.
    """
    return idx_files.load(config.data_dir)


def build_model(config: Config) -> Any:
    """A Keras model whose last layer gives one logit or one probability a class.

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
