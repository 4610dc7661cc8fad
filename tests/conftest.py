import gzip
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests.support.processes import Training
from trainer.training import idx_files

TRAIN_IMAGES, TEST_IMAGES = 640, 200


def write_idx(path: Path, array: npt.NDArray[np.uint8]) -> None:
    """Writes an array of bytes as an IDX file, compressed when the name ends in .gz."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    content = header + array.tobytes()
    path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)


@pytest.fixture(scope="session")
def small_mnist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the first images of MNIST, in MNIST's own format."""
    folder = tmp_path_factory.mktemp("mnist")
    for (images, labels), prefix, count in zip(
        idx_files.load(""), ("train", "t10k"), (TRAIN_IMAGES, TEST_IMAGES), strict=True
    ):
        write_idx(folder / f"{prefix}-images-idx3-ubyte.gz", images[:count])
        write_idx(folder / f"{prefix}-labels-idx1-ubyte", labels[:count])
    return folder


@pytest.fixture
def training(small_mnist: Path) -> Iterator[Training]:
    """Starts real training processes on the small data; what is left of them at the end is killed."""
    started = Training([f"--data_dir={small_mnist}", "--threads=1", "--log_every=0.2"])
    yield started
    started.close()


@pytest.fixture(scope="session")
def paced_flags(small_mnist: Path) -> list[str]:
    """A small run of experiments/paced.py, ten steps an epoch, for which PACE in the environment sets the speed."""
    return [
        f"--data_dir={small_mnist}",
        "--experiment=tests.experiments.paced",
        "--global_batch_size=64",
        "--hidden_units=32",
        "--log_every=0.5",
    ]
