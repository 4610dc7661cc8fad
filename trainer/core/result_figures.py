"""What result.json says, read: its metrics have the names that the model gives them, all else the names below."""

import math
from collections.abc import Mapping
from typing import Any

from trainer.core import typed_json

FIELDS = frozenset(
    {
        "mode",
        "model",
        "workers",
        "global_batch_size",
        "epochs",
        "steps",
        "examples_per_second",
        "images_per_second",
        "seconds",
        "restarts",
        "end",
        "best",
        "outputs",
        "weights_sha256",
        "experiment",
        "flags",
        "versions",
        "exports",
        "report",
    }
)
"""What a metric cannot be called."""


def metrics(result: Mapping[str, Any]) -> dict[str, float]:
    """The loss and the metrics of the epoch that the model is of, those of validation with val_ before their names."""
    return {
        name: float(value)
        for name, value in sound(result).items()
        if name not in FIELDS and isinstance(value, int | float) and not isinstance(value, bool)
    }


def diverged(result: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of metrics that were no numbers, which JSON does not have: null stands for them."""
    return tuple(name for name, value in result.items() if name not in FIELDS and value is None)


def speed(result: Mapping[str, Any]) -> float:
    """Examples a second, over the steps; 0.1.0 called them images."""
    return figure(result, "examples_per_second" if "examples_per_second" in result else "images_per_second")


def figure(result: Mapping[str, Any], name: str) -> float:
    """A number that the result says, from 0; 0 where it says none that could be."""
    try:
        return max(0.0, typed_json.number(result, name))
    except ValueError:
        return 0.0


def sound(result: Mapping[str, Any]) -> dict[str, Any]:
    """What the result says, without what no result holds: it may come from a bucket, or from a pod's last words."""
    return {name: value for name, value in result.items() if _is_plain(value) or _is_flat(value)}


def _is_plain(value: object) -> bool:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return abs(value) < 10**300 and math.isfinite(value)
    return value is None or isinstance(value, str | bool)


def _is_flat(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_plain, value.values()))
