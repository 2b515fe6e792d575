"""What a run shows: a file of JSON, a table, a plot."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from workers.bench.plot import require_matplotlib

COLUMNS: Final = {
    "pages": "pages",
    "rows": "rows",
    "fill_pages_per_s": "filled/s",
    "p50_ms": "p50 ms",
    "p95_ms": "p95 ms",
    "clients_per_s": "20: per s",
    "clients_p50_ms": "p50 ms",
    "clients_p95_ms": "p95 ms",
    "recall_at_10": "recall@10",
    "recall_at_5": "right@5",
    "exact_recall_at_5": "of exact",
    "bytes_per_search": "KB warm",
    "cold_bytes": "KB cold",
    "cold_ms": "cold ms",
    "cpu_ms_per_search": "CPU ms",
    "api_mb": "API MB",
    "milvus_mb": "Milvus MB",
}
_KB: Final = 1000
_SIZE_IN: Final = (11, 7)
_DPI: Final = 120


def write_json(figures: Sequence[Mapping[str, Any]], path: Path) -> None:
    path.write_text(json.dumps(figures, indent=2) + "\n")


def table(figures: Sequence[Mapping[str, Any]]) -> str:
    rows = [list(COLUMNS.values()), *([_cell(key, size[key]) for key in COLUMNS] for size in figures)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def _cell(key: str, value: float) -> str:
    if "recall" in key:
        return f"{value:.3f}"
    if "bytes" in key:
        return f"{value / _KB:,.0f}"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def save_plot(figures: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Plot times, searches a second, recall and memory over the pages."""
    require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE_IN, layout="constrained")
    figure.suptitle(title)
    panels = {
        "search (ms)": ("p50_ms", "p95_ms", "cold_ms"),
        "20 clients: searches a second": ("clients_per_s",),
        "recall": ("recall_at_10", "recall_at_5", "exact_recall_at_5"),
        "memory (MB)": ("api_mb", "milvus_mb"),
    }
    pages = [size["pages"] for size in figures]
    for axes, (label, keys) in zip(figure.subplots(2, 2).flat, panels.items(), strict=True):
        for key in keys:
            axes.plot(pages, [size[key] for size in figures], marker="o", label=key)
        axes.set_xlabel("pages")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
        if "recall" not in label:
            axes.set_ylim(bottom=0)
    figure.savefig(path, dpi=_DPI)
