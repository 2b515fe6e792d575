"""Live bars of `pagemill bench load`."""

from __future__ import annotations

import asyncio
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column

from workers.bench.load import LoadRun
from workers.bench.load_report import pages_per_s
from workers.bench.sampling import Sampler

_REFRESH_S: Final = 0.5
_RATE_WINDOW_S: Final = 10.0
_LEAST_BAR: Final = 10
_COUNT: Final = "{task.completed:,.0f}/{task.total:,.0f}"


async def show_bars(load: LoadRun, sampler: Sampler, console: Console, *, is_shown: bool) -> None:
    """Show bars of files and pages until it is cancelled. Return at once where there is no terminal."""
    if not is_shown or not console.is_terminal:
        return
    with Progress(
        TextColumn("{task.description}", table_column=Column(no_wrap=True)),
        BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=_LEAST_BAR)),
        TextColumn(_COUNT, table_column=Column(justify="right", no_wrap=True)),
        TextColumn("{task.fields[note]}", table_column=Column(no_wrap=True)),
        TimeElapsedColumn(table_column=Column(justify="right", no_wrap=True)),
        console=console,
        expand=True,
    ) as progress:
        bars = _Bars(progress, load, sampler)
        try:
            while True:
                bars.update()
                await asyncio.sleep(_REFRESH_S)
        finally:
            bars.update()  # what stays on the screen is the end of the run


class _Bars:
    """One bar for each step of a file."""

    def __init__(self, progress: Progress, load: LoadRun, sampler: Sampler) -> None:
        self._progress = progress
        self._load = load
        self._sampler = sampler
        plan = load.plan
        self._accepted = self._add("accepted", plan.files)
        self._settled = self._add("settled", plan.files)
        self._pages = self._add("pages", plan.files * plan.pages)

    def update(self) -> None:
        load = self._load
        waiting = f"{load.backlog:,} waiting{self._lag()}"
        self._progress.update(self._accepted, completed=load.accepted, note=waiting)
        self._progress.update(self._settled, completed=load.settled, note=_failed(load))
        self._progress.update(self._pages, completed=load.pages_done, note=self._rate())

    def _add(self, name: str, total: int) -> TaskID:
        return self._progress.add_task(name, total=total, note="")

    def _lag(self) -> str:
        lag = self._sampler.samples[-1].lag if self._sampler.samples else None
        return "" if lag is None else f", lag {lag:,.0f}"

    def _rate(self) -> str:
        samples = self._sampler.samples
        last = [sample for sample in samples if sample.at_s >= samples[-1].at_s - _RATE_WINDOW_S]
        rates = pages_per_s(last, _RATE_WINDOW_S)[1]
        return f"{rates[-1]:,.1f} pages/s" if rates else ""


def _failed(load: LoadRun) -> str:
    return f"[red]{load.not_ready:,} not ready[/]" if load.not_ready else ""
