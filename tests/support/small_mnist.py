"""The first images of MNIST as files of MNIST's own format, so that an epoch takes a moment."""

import gzip
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trainer.training.data import idx_files

TRAIN_IMAGES, TEST_IMAGES = 640, 200


def write_small_mnist(folder: Path) -> None:
    """Writes the four files, two of them compressed and two not, into a folder that exists."""
    for (images, labels), prefix, count in zip(
        idx_files.load(""), ("train", "t10k"), (TRAIN_IMAGES, TEST_IMAGES), strict=True
    ):
        write_idx(folder / f"{prefix}-images-idx3-ubyte.gz", images[:count])
        write_idx(folder / f"{prefix}-labels-idx1-ubyte", labels[:count])


def write_idx(path: Path, array: npt.NDArray[np.uint8]) -> None:
    """Writes an array of bytes as an IDX file, compressed when the name ends in .gz."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    content = header + array.tobytes()
    path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)
