"""What result.json says, read: its metrics have the names that the model gives them, all else the names below."""

import math
from collections.abc import Mapping
from typing import Any

_FIGURES = frozenset(
    {
        "workers",
        "global_batch_size",
        "epochs",
        "steps",
        "examples_per_second",
        "images_per_second",
        "seconds",
        "restarts",
    }
)


def metrics(result: Mapping[str, Any]) -> dict[str, float]:
    """The loss and the metrics of the last epoch, those of validation with val_ before their names."""
    return {
        name: float(value)
        for name, value in result.items()
        if name not in _FIGURES
        and isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
    }


def speed(result: Mapping[str, Any]) -> float:
    """Examples a second, over the steps; 0.1.0 called them images."""
    value = result.get("examples_per_second", result.get("images_per_second", 0))
    return float(value) if isinstance(value, int | float) else 0.0
