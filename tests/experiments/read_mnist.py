"""MNIST and its model, from files of any format that trainer.sources reads, in the folders train and validation.

Flags of its own bound how long a store may be away, so that tests need not wait for minutes.
"""

import dataclasses
from typing import Any

from tests.support.data_formats import READERS
from trainer import mnist, sources
from trainer.core.settings import setting
from trainer.sources.files import retries


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags(mnist.Flags):
    """What reads."""

    reader: str = setting("npy", "a format of tests.support.data_formats, or images")
    patience: float = setting(0.0, "seconds that a store may be away; 0: as long as it may elsewhere")


preprocess, build_model = mnist.preprocess, mnist.build_model


def load_data(config: Any) -> Any:
    if config.patience:
        retries.PATIENCE_SECONDS = retries.FIRST_PATIENCE_SECONDS = config.patience
    read = images if config.reader == "images" else READERS[config.reader]
    return read(f"{config.data_dir}/train"), read(f"{config.data_dir}/validation")


def images(folder: str) -> Any:
    return sources.Decoded(sources.ImageFolder(f"{folder}/images", size=(28, 28), channels=1), without_channel)


def without_channel(example: Any, _: Any) -> Any:
    image, label = example
    return image[..., 0], label
