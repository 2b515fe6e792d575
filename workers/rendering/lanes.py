"""The children that render, in two lanes, so that pages that need much delay no other document.

    quick tries   PAGEMILL_RENDER_PROCESSES children, half the memory, CPU time that ordinary pages stay far below
        | out of CPU time
        v
    slow tries    the same children, several times the CPU time; all slow documents of a caller share one turn
        | out of CPU time; from either: out of memory, a crash
        v
    long tries    one child, one page at a time, with all that a page may have

A document never goes back to an earlier kind of try. In each lane, callers take turns.
All children together stay within (PAGEMILL_RENDER_PROCESSES / 2 + 1) x PAGEMILL_RENDER_MEMORY_BYTES.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from enum import Enum
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

_QUICK_PART: Final[dict[Engine, int]] = {"pdfium": 4, "poppler": 2}
"""A quick try has this part of the CPU time of a slow one. Poppler takes longer at ordinary pages."""

_LEAST_BYTES: Final = 512 * 1024**2
"""Half the memory would not do for ordinary pages, where an operator allows little."""


class Pace(Enum):
    """How a document has rendered so far, and so the kind of its next try."""

    QUICK = "quick"
    SLOW = "slow"
    LONG = "long"


def try_cpu_s(plans: Sequence[PagePlan], pace: Pace, engine: Engine) -> float:
    """CPU time of a try at `plans`. A slow one has several times what ordinary pages of their size take."""
    megapixels = sum(plan.pixels for plan in plans) / 1e6
    slow_s = _CALL_S + _PAGE_S * len(plans) + _MEGAPIXEL_S * megapixels
    return slow_s / _QUICK_PART[engine] if pace is Pace.QUICK else slow_s


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
    async def first_try(self, caller: str, pace: Pace = Pace.QUICK) -> AsyncIterator[Sandbox]:
        """Waits for a turn of `caller`, which ends with the block.

        A caller's quick and slow documents take turns apart, so that its slow ones delay its quick ones, and all
        other callers, by one try at a time.
        """
        async with self._first_turns.slot(f"{pace.value} {caller}"):
            yield self._first

    @asynccontextmanager
    async def long_try(self, caller: str, engine: Engine) -> AsyncIterator[Sandbox]:
        """As `first_try`. Calls must not keep their child: it may hold as much memory as the next one needs."""
        async with self._long_turns.slot(caller):
            yield self._long[engine]
