"""A small convolutional network for MNIST: augmentation, BatchNormalization, AdamW with a warm-up and a cosine.

python -m trainer --experiment=trainer.examples.cnn --epochs=3
"""

import dataclasses
from typing import Any

import keras
import numpy.typing as npt
import tensorflow as tf
from keras import layers

from trainer.core.exit_codes import DataError
from trainer.core.settings import setting
from trainer.training.data import idx_files

Split = tuple[npt.NDArray[Any], npt.NDArray[Any]]

MAX_SHIFT = 2  # Pixels by which an image is moved at most, in each direction.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """The flags of this experiment, beside the trainer's own."""

    examples: int = setting(60_000, "training images that are used, the first ones of the data set", minimum=1)
    peak_rate: float = setting(0.004, "learning rate at the end of the warm-up", above=0.0)
    warmup: float = setting(0.1, "share of all steps in which the learning rate rises", minimum=0.0, below=1.0)
    weight_decay: float = setting(0.01, "of AdamW", minimum=0.0)


def load_data(config: Any) -> tuple[Split, Split]:
    """Training and validation data: images uint8 [count, 28, 28], labels uint8 [count].

    Raises:
      DataError: there are fewer images than the schedule of `build_model` counts on.
    """
    (images, labels), validation = idx_files.load(config.data_dir)
    if len(images) < config.examples:
        raise DataError(
            f"--examples={config.examples} is more than the {len(images)} training images; give a smaller one"
        )
    return (images[: config.examples], labels[: config.examples]), validation


def preprocess(x: Any, y: Any, seed: Any, training: bool) -> tuple[Any, Any]:
    """Scales an image, uint8 [28, 28], to float32 [28, 28, 1] from 0 to 1; moves it a little if it is trained on."""
    image = tf.cast(x, tf.float32)[..., tf.newaxis] / 255.0
    if training:
        border = [[MAX_SHIFT, MAX_SHIFT], [MAX_SHIFT, MAX_SHIFT], [0, 0]]
        image = tf.image.stateless_random_crop(tf.pad(image, border), [28, 28, 1], seed)
    return image, y


def build_model(config: Any) -> keras.Model:
    """The network, compiled: it is trained as compile() says, and --optimizer and --loss mean nothing here."""
    steps = max(1, config.epochs * (config.examples // config.global_batch_size))
    warmup = int(config.warmup * steps)
    rate = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0, warmup_target=config.peak_rate, warmup_steps=warmup, decay_steps=steps - warmup
    )
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),  # [batch, height, width, channels]
            *_convolution(16),
            *_convolution(32),
            layers.MaxPooling2D(),
            *_convolution(64),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.3),
            layers.Dense(10, dtype="float32"),  # Logits; with --precision=bfloat16, too, whose two digits are too few.
        ],
        name="cnn",
    )
    model.compile(
        optimizer=keras.optimizers.AdamW(rate, weight_decay=config.weight_decay),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(5, name="top5")],
    )
    return model


def _convolution(filters: int) -> list[keras.Layer]:
    # BatchNormalization's statistics are each worker's own; synchronized=True makes them those of the global batch.
    return [layers.Conv2D(filters, 3, padding="same", use_bias=False), layers.BatchNormalization(), layers.ReLU()]
