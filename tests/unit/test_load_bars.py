"""The live bars of `pagemill bench load`, as a terminal shows them."""

from __future__ import annotations

import asyncio
import io
import re
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytest
from rich.console import Console

from ingestion.model import DocumentState
from tests.support.load_runs import a_file, a_sample
from workers.bench.load import REFUSED, UNFINISHED, LoadPlan, LoadRun
from workers.bench.sampling import Sampler
from workers.commands.bench.load_bars import show_bars

READY = DocumentState.READY


def run_of(*states: str, files: int, pages: int) -> LoadRun:
    load = LoadRun(cast(Any, None), "c", LoadPlan(files, pages, concurrency=1), Path())
    load.files += [a_file(number, state=state) for number, state in enumerate(states)]
    for file in load.files:
        file.pages_done = pages if file.state == READY else 0
        file.accepted_s = None if file.state == REFUSED else 1.0
    return load


async def screen(load: LoadRun, width: int, *, samples: int = 3) -> list[str]:
    """The lines that stay on the screen after the bars were cancelled."""
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=width, color_system=None)
    sampler = Sampler(load, lambda: None, lambda _: [])
    sampler.samples += [a_sample(5.0 * number, 1000 * number, lag=1234.0) for number in range(samples)]
    task = asyncio.create_task(show_bars(load, sampler, console, is_shown=True))
    await asyncio.sleep(0)
    load.files += run_of(READY, files=1, pages=load.plan.pages).files  # after the last refresh
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    frame = re.split(r"\x1b\[\d*A", output.getvalue())[-1]
    return [line.rstrip() for line in re.sub(r"\x1b\[[?\d]*\w", "", frame).splitlines() if line.strip()]


@pytest.mark.parametrize("width", [80, 120])
async def test_one_line_for_each_step_with_aligned_columns(width: int) -> None:
    load = run_of(READY, REFUSED, UNFINISHED, files=20_000, pages=50)
    accepted, settled, pages = await screen(load, width)
    assert re.fullmatch(r"accepted +[━╸╺ ]+ +3/20,000 +1 waiting, lag 1,234 +0:00:00", accepted)
    assert re.fullmatch(r"settled +[━╸╺ ]+ +3/20,000 +1 not ready +0:00:00", settled)
    assert re.fullmatch(r"pages +[━╸╺ ]+ +100/1,000,000 200.0 pages/s +0:00:00", pages)
    assert {len(line) for line in (accepted, settled, pages)} == {width}
    assert len({line.index("/") for line in (accepted, settled)}) == 1


async def test_the_last_state_stays_on_the_screen() -> None:
    accepted, settled, pages = await screen(run_of(READY, files=2, pages=3), 80, samples=0)
    assert ("2/2" in accepted, "2/2" in settled, "6/6" in pages) == (True, True, True)
