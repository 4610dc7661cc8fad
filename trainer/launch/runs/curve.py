"""A curve drawn with characters: a dot matrix of two by four dots a character (Unicode's Braille patterns)."""

import itertools
import math
from collections.abc import Mapping

from trainer.launch.runs.table import number

_FIRST = 0x2800
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # By row and column within a character.


def drawn(points: Mapping[int, float], *, width: int, height: int = 8) -> list[str]:
    """The lines of a picture: the curve, with its greatest and least value at the left and its ends below.

    Args:
      points: the value at each epoch.
      width: the characters that a line may have.
      height: the lines of the curve.
    """
    known = {x: y for x, y in sorted(points.items()) if math.isfinite(y)}
    if not known:
        return []
    low, high = min(known.values()), max(known.values())
    labels = [number(high), *[""] * (height - 2), number(low)]
    margin = max(map(len, labels))
    columns = max(8, width - margin - 2)
    first, last = min(known), max(known)
    cells = [[0] * columns for _ in range(height)]
    dots = [(_scaled(x, first, last, 2 * columns - 1), _scaled(high - y, 0, high - low, 4 * height - 1))
            for x, y in known.items()]  # fmt: skip
    for column, row in _joined(dots):
        cells[row // 4][column // 2] |= _DOTS[row % 4][column % 2]
    lines = [f"{label:>{margin}} ┤" + "".join(chr(_FIRST + cell) for cell in row).rstrip(chr(_FIRST))
             for label, row in zip(labels, cells, strict=True)]  # fmt: skip
    below = f"epoch {first}".ljust(max(0, columns - len(str(last)))) + str(last) if last > first else f"epoch {first}"
    return [*lines, " " * (margin + 2) + below]


def _scaled(value: float, least: float, most: float, steps: int) -> int:
    """Where a value stands on a scale of so many steps; in the middle where all values are the same."""
    if most <= least:
        return steps // 2
    return min(steps, max(0, round((value - least) / (most - least) * steps)))


def _joined(dots: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The dots, and those on the straight lines between them."""
    all_dots = dots[:1]
    for (x, y), (next_x, next_y) in itertools.pairwise(dots):
        steps = max(abs(next_x - x), abs(next_y - y), 1)
        all_dots += [
            (x + round((next_x - x) * step / steps), y + round((next_y - y) * step / steps))
            for step in range(1, steps + 1)
        ]
    return all_dots
