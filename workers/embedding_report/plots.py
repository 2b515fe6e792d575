"""Line plots as SVG: a machine that makes a report needs no plotting library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log2
from typing import Final
from xml.sax.saxutils import escape

_WIDTH: Final = 640
_HEIGHT: Final = 400
_LEFT: Final = 70
_RIGHT: Final = 20
_TOP: Final = 40
_BOTTOM: Final = 60
_COLOURS: Final = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd")
_TICKS: Final = 5

Points = Sequence[tuple[float, float]]


def line_plot(title: str, x: str, y: str, series: Mapping[str, Points]) -> str:
    """An SVG of one line for each of `series`. The x axis is logarithmic, for batches that double. From zero in y."""
    points = [point for line in series.values() for point in line]
    if not points:
        points = [(1.0, 1.0)]
    low, high = min(one for one, _ in points), max(one for one, _ in points)
    top = max(value for _, value in points) * 1.05 or 1.0

    def at(point: tuple[float, float]) -> tuple[float, float]:
        span = log2(high / low) or 1.0
        across = log2(point[0] / low) / span
        return (
            _LEFT + across * (_WIDTH - _LEFT - _RIGHT),
            _HEIGHT - _BOTTOM - point[1] / top * (_HEIGHT - _TOP - _BOTTOM),
        )

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_WIDTH / 2}" y="20" text-anchor="middle" font-size="14">{escape(title)}</text>',
    ]
    for tick in range(_TICKS + 1):
        value = top * tick / _TICKS
        _, height = at((low, value))
        parts.append(f'<path d="M{_LEFT} {height:.1f}H{_WIDTH - _RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{height + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    for value in sorted({one for one, _ in points}):
        across, _ = at((value, 0))
        parts.append(f'<text x="{across:.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{value:g}</text>')
    parts.append(f'<text x="{_WIDTH / 2}" y="{_HEIGHT - _BOTTOM + 34}" text-anchor="middle">{escape(x)}</text>')
    turned = f'transform="rotate(-90 16 {_HEIGHT / 2})"'
    parts.append(f'<text x="16" y="{_HEIGHT / 2}" text-anchor="middle" {turned}>{escape(y)}</text>')
    for number, (name, line) in enumerate(series.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        places = [at(point) for point in line]
        drawn = "L".join(f"{across:.1f} {height:.1f}" for across, height in places)
        if places:
            parts.append(f'<path d="M{drawn}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{across:.1f}" cy="{height:.1f}" r="3" fill="{colour}"/>' for across, height in places]
        left = _LEFT + 110 * number
        parts.append(f'<rect x="{left}" y="{_HEIGHT - 18}" width="12" height="4" fill="{colour}"/>')
        parts.append(f'<text x="{left + 18}" y="{_HEIGHT - 12}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])
