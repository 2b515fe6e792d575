"""Plots of values over time, as SVG for a report. matplotlib is in the extra `plot`."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from workers.bench.plot import label_axes, require_matplotlib

_WIDTH_IN: Final = 8.0
_HEIGHT_IN: Final = 2.4
_FEW_LINES: Final = 3


@dataclass(frozen=True, slots=True)
class Line:
    """`y` over `x`. `is_points`: separate marks without a line."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    is_points: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One plot. Panels of a figure stand one below the other."""

    y_label: str
    lines: Sequence[Line]
    x_label: str = "seconds since the start"


def draw_svg(panels: Sequence[Panel]) -> str:
    """Return an SVG element with all panels. Raises BadRequest without matplotlib."""
    require_matplotlib()
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH_IN, _HEIGHT_IN * len(panels)), layout="constrained")
    for panel, axes in zip(panels, figure.subplots(len(panels), 1, squeeze=False)[:, 0], strict=True):
        for line in panel.lines:
            style = {"marker": ".", "linestyle": ""} if line.is_points else {"linewidth": 1.2}
            axes.plot(line.x, line.y, label=line.label, **style)
        label_axes(axes, panel.x_label, panel.y_label, has_legend=1 < len(panel.lines) <= _FEW_LINES)
        if len(panel.lines) > _FEW_LINES:  # beside the plot, so that it hides no line
            axes.legend(fontsize=6, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        axes.set_ylim(bottom=0)
    svg = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "pagemill"}):
        figure.savefig(svg, format="svg", metadata={"Date": None})
    return svg.getvalue()[svg.getvalue().index("<svg") :]
