"""A picture of a few curves over two logarithmic axes, as an SVG for light and dark pages."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 720, 420, 80, 50, 40, 210
COLOURS = ("#d62728", "#1f77b4", "#2ca02c", "#888888")
Curve = Sequence[tuple[float, float]]


def draw(path: Path, curves: Mapping[str, Curve], *, title: str, x_label: str, y_label: str, dashed: str = "") -> None:
    """Writes the picture; the curve of the name `dashed` is drawn with dashes."""
    points = [point for curve in curves.values() for point in curve]
    low_x, high_x = (edge(math.log10(point[0]) for point in points) for edge in (min, max))
    low_y = math.floor(min(math.log10(point[1]) for point in points))
    high_y = math.ceil(max(math.log10(point[1]) for point in points))

    def place(x: float, y: float) -> tuple[float, float]:
        across = (math.log10(x) - low_x) / (high_x - low_x)
        up = (math.log10(y) - low_y) / (high_y - low_y)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - BOTTOM - TOP)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" '
        f'font-size="12"><rect width="100%" height="100%" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="15">{title}</text>',
        f'<text x="{(WIDTH - RIGHT + LEFT) / 2}" y="{HEIGHT - 12}" text-anchor="middle">{x_label}</text>',
        f'<text transform="translate(16 {HEIGHT / 2}) rotate(-90)" text-anchor="middle">{y_label}</text>',
    ]
    for power in range(math.ceil(low_x), math.floor(high_x) + 1):
        x, _ = place(10.0**power, 10.0**low_y)
        parts.append(_line(x, TOP, x, HEIGHT - BOTTOM))
        parts.append(f'<text x="{x}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{10**power:,}</text>')
    for power in range(low_y, high_y + 1):
        _, y = place(points[0][0], 10.0**power)
        parts.append(_line(LEFT, y, WIDTH - RIGHT, y))
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{_size(10.0**power)}</text>')
    for (name, curve), colour in zip(curves.items(), COLOURS, strict=False):
        places = " ".join("{:.1f},{:.1f}".format(*place(*point)) for point in curve)
        dashes = ' stroke-dasharray="5 4"' if name == dashed else ""
        parts.append(f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>')
        x, y = place(*curve[-1])
        parts.append(f'<text x="{x + 6:.1f}" y="{y + (16 if name == dashed else 4):.1f}" fill="{colour}">{name}</text>')
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*parts, "</svg>"]) + "\n")


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#dddddd"/>'


def _size(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:g} {unit}"
        size /= 1000
    return f"{size:g} TB"
