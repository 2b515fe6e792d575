"""Live bars of `pagemill bench load`."""

from __future__ import annotations

import asyncio
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from workers.bench.load import LoadRun
from workers.bench.load_report import pages_per_s
from workers.bench.sampling import Sampler

_REFRESH_S: Final = 0.5
_RATE_WINDOW_S: Final = 10.0


async def show_bars(load: LoadRun, sampler: Sampler, console: Console, *, is_shown: bool) -> None:
    """Show bars of files and pages until it is cancelled. Return at once where there is no terminal."""
    if not is_shown or not console.is_terminal:
        return
    plan = load.plan
    with Progress(
        TextColumn("{task.description:<9}"),
        BarColumn(),
        TextColumn("{task.completed:g}/{task.total:g} {task.fields[note]}"),
        TimeElapsedColumn(),
        console=console,
    ) as progress:
        accepted = progress.add_task("accepted", total=plan.files, note="")
        settled = progress.add_task("settled", total=plan.files, note="")
        pages = progress.add_task("pages", total=plan.files * plan.pages, note="")
        while True:
            progress.update(accepted, completed=load.accepted)
            progress.update(settled, completed=load.settled, note=_lag(sampler))
            progress.update(pages, completed=load.pages_done, note=_rate(sampler))
            await asyncio.sleep(_REFRESH_S)


def _lag(sampler: Sampler) -> str:
    lag = sampler.samples[-1].lag if sampler.samples else None
    return "" if lag is None else f"lag {lag:g}"


def _rate(sampler: Sampler) -> str:
    last = [sample for sample in sampler.samples if sample.at_s >= sampler.samples[-1].at_s - _RATE_WINDOW_S]
    rates = pages_per_s(last, _RATE_WINDOW_S)[1]
    return f"{rates[-1]:.1f} pages/s" if rates else ""
