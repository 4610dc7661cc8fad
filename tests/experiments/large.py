"""MNIST's model on data that are larger than memory: the files of --data_dir, of which an epoch reads a part."""

import dataclasses
from typing import Any

import numpy as np

from tests.experiments.read_mnist import without_channel
from tests.support.data_formats import READERS
from trainer import mnist, sources
from trainer.core.settings import setting

preprocess, build_model = mnist.preprocess, mnist.build_model


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags(mnist.Flags):
    """What reads."""

    reader: str = setting("npy", "npy, tfrecord, images, or another format of tests.support.data_formats")


def load_data(config: Any) -> Any:
    if config.reader == "npy":
        return sources.NpyFiles(f"{config.data_dir}/x.npy", f"{config.data_dir}/y.npy"), None
    if config.reader == "tfrecord":
        return sources.TFRecords(config.data_dir, parse), None
    if config.reader == "images":
        return sources.Decoded(sources.ImageFolder(config.data_dir, size=(28, 28), channels=1), without_channel), None
    return sources.Decoded(READERS[config.reader](config.data_dir), corner), None


def steps_per_epoch(_: Any) -> int:
    return 200


def parse(record: bytes) -> Any:
    return np.frombuffer(record, np.uint8, 784).reshape(28, 28), np.uint8(0)


def corner(example: Any, _: Any) -> Any:
    image, label = example
    return image[:28, :28], label
