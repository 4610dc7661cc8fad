"""Kubernetes' quantities as numbers: "500m" is 0.5, "3Gi" is 3 × 2³⁰."""

import re

_SUFFIXES = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0}
_SUFFIXES |= {letter: 10.0 ** (3 * power) for power, letter in enumerate("kMGTPE", 1)}
_SUFFIXES |= {f"{letter}i": 2.0 ** (10 * power) for power, letter in enumerate("KMGTPE", 1)}
_NUMBER = re.compile(r"([+-]?[\d.]+(?:[eE][+-]?\d+)?)([a-zA-Z]*)")


def number(quantity: str | float) -> float:
    """The quantity in its base unit: cores, bytes, pieces; 0 for what is no quantity."""
    match = _NUMBER.fullmatch(str(quantity))
    if match is None:
        return 0.0
    return float(match[1]) * _SUFFIXES.get(match[2], 1.0)


def text(resource: str, value: float) -> str:
    """An amount of a resource, in its base unit, as a person writes it."""
    if resource.endswith(("memory", "storage")):
        return f"{value / 2**30:.3g}Gi" if value >= 2**30 or not value else f"{value / 2**20:.3g}Mi"
    return f"{value:.3g}"
