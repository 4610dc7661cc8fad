"""Uses what Python calls deprecated, while data are loaded: to see that a test would fail of it."""

import warnings
from typing import Any

from trainer.mnist import Flags, build_model

__all__ = ["Flags", "build_model", "load_data"]


def load_data(config: Any) -> Any:
    """Warns."""
    del config
    warnings.warn("old", DeprecationWarning, stacklevel=1)
