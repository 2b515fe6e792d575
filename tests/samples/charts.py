"""Charts of vector graphics: lines and bars over the twelve months, and a wind rose."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

from tests.samples.layout import Sheets

_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_POINTS: Final = ("N", "NE", "E", "SE", "S", "SW", "W", "NW")
_COLOURS: Final = ((190, 60, 40), (40, 80, 170))
_LEFT_MM, _WIDTH_MM, _HEIGHT_MM = 35.0, 150.0, 90.0
_TICKS: Final = 5

Series = Mapping[str, Sequence[float]]


class Axes:
    """A frame with a labelled value axis from 0, or the smallest value, to the largest."""

    def __init__(self, pdf: Sheets, series: Series, unit: str) -> None:
        values = [value for row in series.values() for value in row]
        self._pdf = pdf
        self._low, self._high = min(0.0, *values), max(values)
        self._top_mm = pdf.get_y() + 6
        pdf.set_font("Helvetica", "", 8)
        pdf.set_draw_color(210)
        for tick in range(_TICKS + 1):
            value = self._low + (self._high - self._low) * tick / _TICKS
            pdf.line(_LEFT_MM, self.y(value), _LEFT_MM + _WIDTH_MM, self.y(value))
            pdf.text(_LEFT_MM - 11, self.y(value) + 1, f"{value:.1f}")
        pdf.text(_LEFT_MM - 11, self._top_mm - 3, unit)
        for month, name in enumerate(_MONTHS):
            pdf.text(self.x(month) - 2.5, self._top_mm + _HEIGHT_MM + 5, name)

    def x(self, month: int) -> float:
        """The middle of a month, from 0, in mm from the left."""
        return _LEFT_MM + _WIDTH_MM * (month + 0.5) / len(_MONTHS)

    def y(self, value: float) -> float:
        """The height of a value in mm from the top."""
        return self._top_mm + _HEIGHT_MM * (self._high - value) / (self._high - self._low)

    def leave(self) -> None:
        """Move the pen below the frame."""
        self._pdf.set_y(self._top_mm + _HEIGHT_MM + 12)


def lines(pdf: Sheets, series: Series, unit: str) -> None:
    axes = Axes(pdf, series, unit)
    pdf.set_line_width(0.7)
    for (name, values), colour in zip(series.items(), _COLOURS, strict=False):
        pdf.set_draw_color(*colour)
        for (month, value), (next_month, next_value) in pairwise(enumerate(values)):
            pdf.line(axes.x(month), axes.y(value), axes.x(next_month), axes.y(next_value))
        pdf.text(axes.x(0), axes.y(values[0]) - 2, name)
    pdf.set_line_width(0.2)
    axes.leave()


def bars(pdf: Sheets, series: Series, unit: str) -> None:
    axes = Axes(pdf, series, unit)
    (values,) = series.values()
    pdf.set_fill_color(*_COLOURS[1])
    for month, value in enumerate(values):
        pdf.rect(axes.x(month) - 4, axes.y(value), 8, axes.y(0) - axes.y(value), style="F")
        pdf.text(axes.x(month) - 2.5, axes.y(value) - 1.5, f"{value:g}")
    axes.leave()


def rose(pdf: Sheets, series: Series, unit: str) -> None:
    """One petal for each of eight directions, clockwise from north; its length is the value."""
    (values,) = series.values()
    centre_x, centre_y, radius = 105.0, pdf.get_y() + 52, 42.0
    pdf.set_font("Helvetica", "", 8)
    pdf.set_fill_color(*_COLOURS[1])
    for point, value in enumerate(values):
        middle = math.tau * point / len(values)
        reach = radius * value / max(values)
        tips = [
            (centre_x + reach * math.sin(middle + side), centre_y - reach * math.cos(middle + side))
            for side in (-0.3, 0.3)
        ]
        pdf.polygon([(centre_x, centre_y), *tips], style="F")
        label_x, label_y = centre_x + (radius + 5) * math.sin(middle), centre_y - (radius + 5) * math.cos(middle)
        pdf.text(label_x - 4, label_y + 1, f"{_POINTS[point]} {value:g}")
    pdf.text(centre_x - 15, centre_y + radius + 12, unit)
    pdf.set_y(centre_y + radius + 18)


KINDS: Final = {"lines": lines, "bars": bars, "rose": rose}
