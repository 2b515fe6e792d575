"""Plots the tuning matrix. matplotlib is in the extra `plot`."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ingestion.errors import BadRequest
from workers.bench.grid import Built

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MIB: Final = 1024**2
_MARKERS: Final = "osD^vPX*"
_SIZE_IN: Final = (15, 4.5)
_DPI: Final = 120


def require_matplotlib() -> None:
    """Raises BadRequest. Call it before the measurement, which takes long."""
    if importlib.util.find_spec("matplotlib") is None:
        raise BadRequest("plots need matplotlib: pip install 'pagemill[plot]'")


def save_plot(measured: Sequence[Built], title: str, path: Path) -> None:
    """Plot recall over query time, build time, and memory; one colour for each M. Raises BadRequest for a bad path."""
    require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE_IN, layout="constrained")
    figure.suptitle(title)
    quality, build, memory = figure.subplots(1, 3)
    colours = {m: f"C{number}" for number, m in enumerate(sorted({one.m for one in measured}))}
    markers = dict(zip(sorted({one.ef_construction for one in measured}), _MARKERS * len(measured), strict=False))
    for one in measured:
        _plot_searches(quality, one, colours[one.m], markers[one.ef_construction])
    for m, colour in colours.items():
        of_m = sorted((one for one in measured if one.m == m), key=lambda one: one.ef_construction)
        steps = [one.ef_construction for one in of_m]
        build.plot(steps, [one.build_s for one in of_m], color=colour, marker="o", label=f"M {m}")
        memory.plot(steps, [one.index_bytes / _MIB for one in of_m], color=colour, label=f"M {m}, computed")
        grown = [(one.ef_construction, one.memory_bytes / _MIB) for one in of_m if one.memory_bytes is not None]
        if grown:
            memory.plot(*zip(*grown, strict=True), color=colour, marker="x", linestyle="", label=f"M {m}, server")
    label_axes(quality, "one query, p50 (ms)", "recall@10 against exact")
    label_axes(build, "efConstruction", "build (s)")
    label_axes(memory, "efConstruction", "index, and growth of the server (MiB)")
    try:
        figure.savefig(path, dpi=_DPI)
    except (OSError, ValueError) as error:
        raise BadRequest(f"the plot cannot be written to {path}: {error}") from error


def _plot_searches(axes: Axes, one: Built, colour: str, marker: str) -> None:
    """Plot a line from the smallest ef to the largest. The label of a point is its ef."""
    points = sorted(one.searched, key=lambda searched: searched.ef)
    style: dict[str, Any] = {"color": colour, "marker": marker, "linewidth": 1, "markersize": 5}
    label = f"M {one.m}, efC {one.ef_construction}"
    axes.plot([point.p50_ms for point in points], [point.recall for point in points], label=label, **style)
    for point in points:
        axes.annotate(
            str(point.ef), (point.p50_ms, point.recall), fontsize=6, xytext=(3, 3), textcoords="offset points"
        )


def label_axes(axes: Axes, x: str, y: str, *, has_legend: bool = True) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    if has_legend:
        axes.legend(fontsize=6)
