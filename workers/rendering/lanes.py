"""Two lanes of render children, so that expensive pages do not delay other documents.

    quick tries   PAGEMILL_RENDER_PROCESSES children, half the memory, little CPU time, yet ample for ordinary pages
        | out of CPU time
        v
    slow tries    the same children, several times the CPU time; all slow documents of a caller share one turn
        | out of CPU time; from quick or slow tries: out of memory, a crash
        v
    long tries    one child, one page at a time, with the full limits of a page

Quick and slow tries are the short tries: they share the first lane. Long tries have the second one. A document never
goes back to an earlier kind of try. In each lane, callers take turns.
All children together stay within (PAGEMILL_RENDER_PROCESSES / 2 + 1) x PAGEMILL_RENDER_MEMORY_BYTES.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from enum import Enum
from typing import Final

from ingestion.concurrency.fair_limiter import FairLimiter, WhileWaiting
from ingestion.sandbox.pool import Sandbox
from ingestion.settings import RenderSettings
from workers.rendering.dpi import PagePlan
from workers.rendering.render_child import Engine, render_pages

OPENING_S: Final = 1.0
"""CPU time of a short try to read the sizes of all pages. 10,000 pages take 0.05 s."""
_CALL_S: Final = 0.5
_PAGE_S: Final = 0.5
_MEGAPIXEL_S: Final = 0.1

_QUICK_PART: Final[dict[Engine, int]] = {"pdfium": 4, "poppler": 2}
"""A slow try has this many times the CPU time of a quick try. Poppler takes longer for ordinary pages."""

_LEAST_BYTES: Final = 512 * 1024**2
"""Least memory of a short try. With a low limit, half of it is too little for ordinary pages."""


class TryKind(Enum):
    """Kind of the next try of a document, from how its earlier tries ended."""

    QUICK = "quick"
    SLOW = "slow"
    LONG = "long"


def try_cpu_s(plans: Sequence[PagePlan], kind: TryKind, engine: Engine) -> float:
    """CPU time of a try to render `plans`. A slow try has several times the time of ordinary pages of that size."""
    megapixels = sum(plan.pixels for plan in plans) / 1e6
    slow_s = _CALL_S + _PAGE_S * len(plans) + _MEGAPIXEL_S * megapixels
    return slow_s / _QUICK_PART[engine] if kind is TryKind.QUICK else slow_s


class Lanes:
    """The lanes of a worker, shared by all its documents.

    `engine` is the engine of short tries. Waits for the long tries of other documents are inside `while_waiting`.
    """

    def __init__(self, settings: RenderSettings, engine: Engine, *, while_waiting: WhileWaiting = nullcontext) -> None:
        page_bytes = settings.render_memory_bytes
        short_bytes = max(page_bytes // 2, min(page_bytes, _LEAST_BYTES))
        if engine == "poppler":  # the child and poppler's process each get half
            short_bytes //= 2
        self._short = Sandbox(processes=settings.render_processes, memory_bytes=short_bytes)
        self._short_turns = FairLimiter(settings.render_processes)
        self._long_turns = FairLimiter(1, while_waiting=while_waiting)
        self._long: dict[Engine, Sandbox] = {
            "pdfium": Sandbox(processes=1, memory_bytes=page_bytes),
            "poppler": Sandbox(processes=1, memory_bytes=page_bytes // 2),
        }

    async def start(self) -> None:
        """Start the children of short tries with the rendering modules imported. Raises WorkerFault.

        A child cannot import modules later, and a child that measured page sizes is kept for rendering.
        """
        await self._short.start(render_pages)

    @asynccontextmanager
    async def short_try(self, caller: str, kind: TryKind = TryKind.QUICK) -> AsyncIterator[Sandbox]:
        """Waits for a turn of `caller` and holds it until the block ends.

        Quick and slow documents of a caller take separate turns. Slow documents therefore delay quick documents, and
        other callers, by one try at a time.
        """
        async with self._short_turns.slot(f"{kind.value} {caller}"):
            yield self._short

    @asynccontextmanager
    async def long_try(self, caller: str, engine: Engine) -> AsyncIterator[Sandbox]:
        """As `short_try`. Calls must not keep their child: the next child may need its memory."""
        async with self._long_turns.slot(caller):
            yield self._long[engine]
