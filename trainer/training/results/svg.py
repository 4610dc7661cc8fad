"""Drawings of a page as SVG: curves, and bars on a time line. Texts are escaped here."""

import dataclasses
import html
import math
from collections.abc import Sequence

from trainer.core.safe_text import one_line

_WIDTH, _HEIGHT = 420, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 12, 12, 30
_MOST_DOTS = 60  # Of a curve; more would be a band.


@dataclasses.dataclass(frozen=True)
class Curve:
    """One line of a chart: a value an epoch, from the first; one that is no number leaves a gap."""

    name: str
    css: str  # The class that colours it.
    values: Sequence[float]


def escaped(text: object, most: int = 300) -> str:
    """Any text as it may stand in HTML, between tags and in quoted attributes: one line, cut at `most` characters."""
    return html.escape(one_line(str(text), most), quote=True)


def number(value: float) -> str:
    """A number for a person."""
    return f"{value:.4g}" if math.isfinite(value) else "not a number"


def chart(title: str, curves: Sequence[Curve]) -> str:
    """Curves over the epochs, with their axes."""
    finite = [value for curve in curves for value in curve.values if math.isfinite(value)]
    epochs = max((len(curve.values) for curve in curves), default=0)
    if not finite or not epochs:
        return ""
    ticks = _ticks(min(finite), max(finite))
    low, high = min(ticks[0], *finite), max(ticks[-1], *finite)

    def x(epoch: int) -> float:
        inside = _WIDTH - _LEFT - _RIGHT
        return _LEFT + inside * ((epoch - 1) / (epochs - 1) if epochs > 1 else 0.5)

    def y(value: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - (value - low) / ((high - low) or 1.0))

    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escaped(title)} by epoch">',
        *(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
            f'<text class="tick" x="{_LEFT - 6}" y="{y(tick) + 3.5:.1f}" text-anchor="end">{number(tick)}</text>'
            for tick in ticks
        ),
        *(
            f'<text class="tick" x="{x(epoch):.1f}" y="{_HEIGHT - 12}" text-anchor="middle">{epoch}</text>'
            for epoch in sorted({1, (epochs + 1) // 2, epochs})
        ),
    ]
    for curve in curves:
        points = [(x(at), y(value), value, at) for at, value in enumerate(curve.values, 1) if math.isfinite(value)]
        line = " ".join(f"{across:.1f},{up:.1f}" for across, up, *_ in points)
        parts.append(f'<polyline class="curve {curve.css}" points="{line}"/>')
        if len(points) <= _MOST_DOTS:
            parts += [
                f'<circle class="dot {curve.css}" cx="{across:.1f}" cy="{up:.1f}" r="3">'
                f"<title>{escaped(curve.name)}, epoch {at}: {number(value)}</title></circle>"
                for across, up, value, at in points
            ]
    return "".join([*parts, "</svg>"])


def time_line(rows: Sequence[tuple[str, Sequence[tuple[str, float, str]]]]) -> str:
    """Bars one below the other, each beginning where the one before ends.

    Args:
      rows: what stands before each, and its parts: the class that colours a part, its seconds, what it says.
    """
    total = sum(seconds for _, parts in rows for _, seconds, _ in parts) or 1.0
    width, left, height = 880, 90, 22
    drawn, at = [], 0.0
    for row, (name, parts) in enumerate(rows):
        drawn.append(
            f'<text class="tick" x="{left - 8}" y="{row * height + 15}" text-anchor="end">{escaped(name)}</text>'
        )
        for css, seconds, says in parts:
            across, wide = left + (width - left) * at / total, max((width - left) * seconds / total, 0.5)
            drawn.append(
                f'<rect class="{css}" x="{across:.1f}" y="{row * height + 4}" width="{wide:.1f}" height="{height - 8}">'
                f"<title>{escaped(says)}</title></rect>"
            )
            at += seconds
    tall = len(rows) * height + 4
    return f'<svg viewBox="0 0 {width} {tall}" role="img" aria-label="attempts by time">{"".join(drawn)}</svg>'


def _ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers from `low` or below to `high` or above."""
    span = high - low or abs(high) or 1.0
    step = 10 ** math.floor(math.log10(span / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= 5)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [index * step for index in range(first, max(last, first + 1) + 1)]
