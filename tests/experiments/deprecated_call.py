"""An experiment that calls what Python has deprecated."""

import warnings
from typing import Any

from trainer import mnist
from trainer.core.config import Config

load_data = mnist.load_data


def build_model(config: Config) -> Any:
    warnings.warn(f"{config.experiment} calls what is deprecated", DeprecationWarning, stacklevel=1)
