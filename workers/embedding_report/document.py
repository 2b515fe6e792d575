"""report.md, report.json and the two plots, from what the steps have found."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from workers.embedding_report.plan import Options, Section
from workers.embedding_report.plots import line_plot

_GIB: Final = 1024**3
_SPEED_PLOT: Final = "pages-by-batch.svg"
_MEMORY_PLOT: Final = "memory-by-batch.svg"

Findings = dict[str, dict[str, Any]]
Cell = Callable[[dict[str, Any]], object]


def write_document(options: Options, findings: Findings, out: Path) -> None:
    """Write all files anew."""
    whole = {"made_at": datetime.now(UTC).isoformat(timespec="seconds"), "options": options.as_json(), **findings}
    (out / "report.json").write_text(json.dumps(whole, indent=1) + "\n")
    (out / "report.md").write_text(_Document(options, findings).text())
    for name, title, y, field, unit in (
        (_SPEED_PLOT, "Pages a second by batch", "pages a second", "pages_per_s", 1),
        (_MEMORY_PLOT, "Memory by batch", "GiB", "memory_bytes", _GIB),
    ):
        series = {
            precision: [(one["items"], one[field] / unit) for one in _batches(findings, precision) if one["fits"]]
            for precision in options.precisions
        }
        (out / name).write_text(line_plot(title, "pages in a batch", y, series))


def _figures(findings: Findings, step: str, section: str) -> dict[str, Any] | None:
    found: dict[str, Any] | None = findings.get(step, {}).get(section, {}).get("figures")
    return found


def _batches(findings: Findings, precision: str) -> list[dict[str, Any]]:
    return list((_figures(findings, precision, Section.BATCHES) or {}).get("batches", []))


class _Document:
    def __init__(self, options: Options, findings: Findings) -> None:
        self._options = options
        self._findings = findings
        self._lines: list[str] = []

    def text(self) -> str:
        self._head()
        self._verdict()
        self._table("Load", Section.LOAD, _LOAD)
        self._table("Self-test", Section.SELF_TEST, _SELF_TEST)
        self._batch_tables()
        self._table("Out of memory, and after it", Section.MEMORY, _OUT_OF_MEMORY)
        self._table("Pages of several shapes through the batcher", Section.BATCHER, _STREAM)
        self._table("The obvious loop: processor, model, a fixed batch", Section.LOOP, _LOOP)
        self._table("Text queries", Section.QUERIES, _QUERIES)
        self._table("The whole worker, on stores that drop what they get", Section.WORKER, _WORKER)
        self._levers()
        self._errors()
        return "\n".join(self._lines) + "\n"

    def _head(self) -> None:
        machine = _figures(self._findings, "machine", "machine") or {}
        rate = (_figures(self._findings, "machine", "matrix_rate") or {}).get("bf16_operations_per_s")
        is_gpu = "gpu" in machine
        device = machine.get("gpu", f"{machine.get('device', 'unknown device')}, {machine.get('cores')} cores")
        packages = ", ".join(f"{name} {version}" for name, version in machine.get("packages", {}).items())
        weights = "random weights of the published size" if self._options.is_random else "its own weights"
        self._add(
            f"# Embedder report: {self._options.model}, {weights}",
            "",
            f"Made by `pagemill embedder report` on {device}. {packages}.",
            "" if is_gpu else "**This is a CPU: pages are small, and no figure says anything about a GPU.**",
            f"The device multiplies BF16 matrices at {_tera(rate)}." if rate else "The matrix rate was not measured.",
            "",
        )

    def _verdict(self) -> None:
        """Which precision is faster, and what to set."""
        speeds = {
            precision: found["pages_per_s"]
            for precision in self._options.precisions
            if (found := _figures(self._findings, precision, Section.BATCHES))
        }
        if not speeds:
            return
        best = max(speeds, key=lambda precision: speeds[precision])
        found = _figures(self._findings, best, Section.BATCHES) or {}
        others = ", ".join(f"{other} has {speeds[other]:.2f}" for other in speeds if other != best)
        is_faster = f"is the fastest here: {others}" if others else "was measured alone"
        self._add(
            f"**{best}: {speeds[best]:.2f} pages a second.** It {is_faster}. With it, "
            f"`PAGEMILL_EMBED_BATCH_PATCHES={found.get('recommended_patches')}` is as fast as larger batches, "
            "within 3 %.",
            "",
            f"![pages a second by batch]({_SPEED_PLOT})",
            f"![memory by batch]({_MEMORY_PLOT})",
            "",
        )

    def _table(self, title: str, section: Section, cells: dict[str, Cell]) -> None:
        found = {
            precision: figures
            for precision in self._options.precisions
            if (figures := _figures(self._findings, precision, section)) is not None
        }
        if not found:
            return
        self._add(f"## {title}", "", "| | " + " | ".join(found) + " |", "|---|" + "---|" * len(found))
        for name, cell in cells.items():
            self._add(f"| {name} | " + " | ".join(_shown(cell, figures) for figures in found.values()) + " |")
        self._add("")

    def _batch_tables(self) -> None:
        rate = (_figures(self._findings, "machine", "matrix_rate") or {}).get("bf16_operations_per_s")
        operations = max(
            (
                (_figures(self._findings, precision, Section.BATCHES) or {}).get("page_operations") or 0
                for precision in self._options.precisions
            ),
            default=0,
        )  # torch does not see products inside kernels of other libraries: of all precisions the most counts
        for precision in self._options.precisions:
            if not (batches := _batches(self._findings, precision)):
                continue
            self._add(f"## Batches of equal pages, {precision}", "")
            self._add(
                "| pages | patches | GiB | s a page | pages/s | share of the matrix rate |",
                "|---|---|---|---|---|---|",
            )
            for one in batches:
                cells = [one["items"], one["patches"], f"{one['memory_bytes'] / _GIB:.2f}"]
                if not one["fits"]:
                    self._add(f"| {one['items']} | {one['patches']} | too much | | | |")
                    continue
                share = one["pages_per_s"] * operations / rate if rate and operations else None
                cells += [f"{one['seconds'] / one['items']:.4f}", f"{one['pages_per_s']:.2f}"]
                cells.append("" if share is None else f"{share:.3f}")
                self._add("| " + " | ".join(map(str, cells)) + " |")
            self._add("", f"A page takes {operations / 1e9:.3g} billion operations." if operations else "", "")

    def _levers(self) -> None:
        rows = [
            (precision, name, figures)
            for precision in self._options.precisions
            for name, figures in (_figures(self._findings, precision, Section.LEVERS) or {}).items()
        ]
        if not rows:
            return
        self._add("## Levers", "")
        self._add(
            "| precision | lever | pages/s without | with | gain | cosine distance | |",
            "|---|---|---|---|---|---|---|",
        )
        for precision, name, one in rows:
            if "error" in one:
                self._add(f"| {precision} | {name} | | | | | {one['error']} |")
                continue
            self._add(
                f"| {precision} | {name} | {one['pages_per_s_without']:.2f} | {one['pages_per_s_with']:.2f} "
                f"| {one['gain']:.2f} | {_small(one['largest_cosine_distance'])} | |"
            )
        self._add("")

    def _errors(self) -> None:
        errors = [
            f"- {step}, {section}: {line['error']}"
            for step, lines in self._findings.items()
            for section, line in lines.items()
            if "error" in line
        ]
        if errors:
            self._add("## Not measured", "", *errors)

    def _add(self, *lines: str) -> None:
        self._lines += lines


def _shown(cell: Cell, figures: dict[str, Any]) -> str:
    try:
        return str(cell(figures))
    except (KeyError, TypeError, ValueError):
        return ""


def _tera(value: float) -> str:
    """Operations a second."""
    return f"{value / 1e12:.3g} TFLOP/s"


def _small(value: float | None) -> str:
    return "different shapes" if value is None else f"{value:.1e}"


def _rate(name: str = "pages_per_s") -> Cell:
    return lambda one: f"{one[name]:.2f}"


def _share(name: str) -> Cell:
    return lambda one: f"{one[name]:.3f}"


_LOAD: Final[dict[str, Cell]] = {
    "seconds": lambda one: f"{one['seconds']:.1f}",
    "memory, GiB": lambda one: f"{one['bytes'] / _GIB:.2f}",
    "attention": lambda one: one["attention"],
}
_SELF_TEST: Final[dict[str, Cell]] = {"passed, seconds": lambda one: f"{one['seconds']:.1f}"}
_OUT_OF_MEMORY: Final[dict[str, Cell]] = {
    "memory was short because": lambda one: one["how"],
    "errors": lambda one: f"{one['out_of_memory_errors']:.0f}",
    "pages embedded all the same": lambda one: one["pages"],
    "patches of a batch: allowed, and the most that fitted": lambda one: (
        f"{one['budget_patches']}, {one['largest_patches']}"
    ),
    "seconds, and again with all memory": lambda one: (
        f"{one['seconds']:.2f}, {one['seconds_again_with_all_memory']:.2f}"
    ),
    "cosine distance to a page alone": lambda one: _small(one["largest_cosine_distance"]),
    "recovered": lambda one: "yes" if one["is_recovered"] else "no",
}
_STREAM: Final[dict[str, Cell]] = {
    "pages a second": _rate(),
    "device busy": _share("busy_share"),
    "padding": _share("padding_share"),
    "patches of a batch": lambda one: one["batch_patches"],
    "prepare, ms of CPU a page": lambda one: f"{one['prepare_cpu_ms']:.1f}",
}
_LOOP: Final[dict[str, Cell]] = {
    "pages of a batch": lambda one: one["batch_pages"],
    "pages a second": _rate(),
    "device busy": _share("busy_share"),
}
_QUERIES: Final[dict[str, Cell]] = {
    "alone, p50 and p95 ms": lambda one: f"{one['alone']['p50_ms']:.1f}, {one['alone']['p95_ms']:.1f}",
    "beside pages, p50 and p95 ms": lambda one: (
        f"{one['beside_pages']['p50_ms']:.1f}, {one['beside_pages']['p95_ms']:.1f}"
    ),
    "pages a second beside queries": lambda one: f"{one['beside_pages']['pages_per_s']:.2f}",
}
_WORKER: Final[dict[str, Cell]] = {
    "pages": lambda one: one["pages"],
    "pages a second": _rate(),
    "device busy": _share("busy_share"),
    "padding": _share("padding_share"),
    "bytes stored a page": lambda one: f"{one['stored_bytes_a_page']:.0f}",
    "rows a page": lambda one: f"{one['rows_a_page']:.0f}",
}
