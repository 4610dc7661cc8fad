"""MNIST's model on data that are larger than memory: the files of --data_dir, of which an epoch reads a part."""

import dataclasses
from typing import Any

import numpy as np

from trainer import mnist, sources
from trainer.core.settings import setting

preprocess, build_model = mnist.preprocess, mnist.build_model


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags(mnist.Flags):
    """What reads."""

    reader: str = setting("npy", "npy or tfrecord")


def load_data(config: Any) -> Any:
    if config.reader == "npy":
        return sources.NpyFiles(f"{config.data_dir}/x.npy", f"{config.data_dir}/y.npy"), None
    return sources.TFRecords(config.data_dir, parse), None


def steps_per_epoch(_: Any) -> int:
    return 200


def parse(record: bytes) -> Any:
    return np.frombuffer(record, np.uint8, 784).reshape(28, 28), np.uint8(0)
