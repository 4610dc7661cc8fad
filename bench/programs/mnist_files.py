"""The default experiment, its training data from .npy files in --data_dir instead of arrays in memory."""

from typing import Any

from trainer import sources
from trainer.mnist import Flags, build_model, preprocess  # noqa: F401
from trainer.training.data import idx_files


def load_data(config: Any) -> Any:
    _, validation = idx_files.load("")
    return sources.NpyFiles(f"{config.data_dir}/x.npy", f"{config.data_dir}/y.npy"), validation
