"""An experiment that calls what Python has deprecated."""

import warnings
from typing import Any

from trainer.core.config import Config


def load_data(config: Config) -> Any:
    raise AssertionError(config)


def build_model(config: Config) -> Any:
    warnings.warn(f"{config.experiment} calls what is deprecated", DeprecationWarning, stacklevel=1)
