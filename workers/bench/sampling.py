"""Samples of a load test: pages, backlog, lag and memory over time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

import httpx

from workers.bench.load import LoadRun
from workers.bench.memory import stack_rss_bytes
from workers.bench.scrape import LAG, scrape_all, total

INTERVAL_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class LoadSample:
    """`backlog`: files that are accepted and not settled. `lag`: records; None where no process reports it."""

    at_s: float
    pages_done: int
    backlog: int
    lag: float | None
    rss_bytes: Mapping[str, int]


@dataclass(slots=True)
class Sampler:
    """Takes a sample a second while `watch` runs. `urls` are addresses of metrics."""

    load: LoadRun
    read_stack: Callable[[], Mapping[str, Any] | None]
    urls: Callable[[Mapping[str, Any] | None], Sequence[str]]
    samples: list[LoadSample] = field(default_factory=list)

    async def watch(self) -> NoReturn:
        """Take samples until it is cancelled."""
        async with httpx.AsyncClient(trust_env=False) as http:
            while True:
                await self._take(http)
                await asyncio.sleep(INTERVAL_S)

    async def _take(self, http: httpx.AsyncClient) -> None:
        stack = self.read_stack()  # a process that was restarted has another pid
        readings = await scrape_all(http, self.urls(stack))
        sample = LoadSample(
            at_s=self.load.elapsed_s,
            pages_done=self.load.pages_done,
            backlog=self.load.backlog,
            lag=total(readings, LAG),
            rss_bytes=await asyncio.to_thread(stack_rss_bytes, stack),
        )
        self.samples.append(sample)


@asynccontextmanager
async def beside(work: Coroutine[Any, Any, object]) -> AsyncIterator[None]:
    """Run `work` during the block and cancel it at the end. Raises the error that ended `work` during the block."""
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error
