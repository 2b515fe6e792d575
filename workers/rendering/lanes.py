"""The children that draw, in two lanes, so that pages that need much keep no other document waiting.

    first tries   PAGEMILL_RENDER_PROCESSES children, half the memory, CPU time by what is ordered
        | out of CPU time, out of memory, a crash
        v
    long tries    one child, one page at a time, with all that a page may have

A document that has once been in need of a long try makes no first tries any more. In each lane, documents take turns.
All children together stay within (PAGEMILL_RENDER_PROCESSES / 2 + 1) x PAGEMILL_RENDER_MEMORY_BYTES.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from ingestion.concurrency.fair_limiter import FairLimiter
from ingestion.sandbox.pool import Sandbox
from ingestion.settings import RenderSettings
from workers.rendering.dpi import PagePlan
from workers.rendering.render_child import Engine, render_pages

OPENING_S: Final = 1.0
"""CPU time of a first try at the sizes of all pages: 10,000 of them take 0.05 s."""
_CALL_S: Final = 0.5
_PAGE_S: Final = 0.5
_MEGAPIXEL_S: Final = 0.1

_LEAST_BYTES: Final = 512 * 1024**2
"""Half the memory would not do for ordinary pages, where an operator allows little."""


def first_try_s(plans: Sequence[PagePlan]) -> float:
    """CPU time of a first try at `plans`: several times what ordinary pages of their size take, poppler included."""
    megapixels = sum(plan.pixels for plan in plans) / 1e6
    return _CALL_S + _PAGE_S * len(plans) + _MEGAPIXEL_S * megapixels


class Lanes:
    """One for all documents of a worker. `engine` is the one that draws first."""

    def __init__(self, settings: RenderSettings, engine: Engine) -> None:
        page_bytes = settings.render_memory_bytes
        first_bytes = max(page_bytes // 2, min(page_bytes, _LEAST_BYTES))
        if engine == "poppler":  # a child that waits for poppler, and poppler itself
            first_bytes //= 2
        self._first = Sandbox(processes=settings.render_processes, memory_bytes=first_bytes)
        self._first_turns = FairLimiter(settings.render_processes)
        self._long_turns = FairLimiter(1)
        self._long: dict[Engine, Sandbox] = {
            "pdfium": Sandbox(processes=1, memory_bytes=page_bytes),
            "poppler": Sandbox(processes=1, memory_bytes=page_bytes // 2),
        }

    async def start(self) -> None:
        """Have first tries import what they draw with, before a child that only measures is kept for rendering, which
        can import nothing any more. Raises WorkerFault."""
        await self._first.start(render_pages)

    @asynccontextmanager
    async def first_try(self, document: str) -> AsyncIterator[Sandbox]:
        """Waits for the turn of `document`, which ends with the block."""
        async with self._first_turns.slot(document):
            yield self._first

    @asynccontextmanager
    async def long_try(self, document: str, engine: Engine) -> AsyncIterator[Sandbox]:
        """As `first_try`. Calls must not keep their child: it may hold as much memory as the next one needs."""
        async with self._long_turns.slot(document):
            yield self._long[engine]
