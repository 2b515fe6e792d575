"""How many documents a worker processes side by side: few long ones, or many short ones."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

_MAX_WEIGHT_PAGES: Final = 16
"""Two windows. A longer document is processed window by window, and weighs no more."""
_MIN_WEIGHT_PAGES: Final = 4
"""What a document costs besides its pages: a lease, requests, files."""


class WeightedLimiter:
    """Capacity for `long_documents` documents of 16 pages or more, or for up to four times as many shorter ones.

    Four documents of two pages leave a device idle while the next ones are being prepared. Sixteen hardly do, and they
    hold no more pages in memory than four long ones. Waiting documents are admitted in the order of their arrival, so
    that short ones cannot starve a long one.
    """

    def __init__(self, long_documents: int) -> None:
        self._free_pages = long_documents * _MAX_WEIGHT_PAGES
        self.max_documents = self._free_pages // _MIN_WEIGHT_PAGES
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def acquire(self, pages: int) -> AsyncIterator[None]:
        """Hold the capacity that a document of `pages` pages takes; 0 where the number is unknown. Waits for it."""
        weight = min(max(pages, _MIN_WEIGHT_PAGES), _MAX_WEIGHT_PAGES) if pages else _MAX_WEIGHT_PAGES
        await self._acquire(weight)
        try:
            yield
        finally:
            self._release(weight)

    async def _acquire(self, weight: int) -> None:
        if not self._waiting and weight <= self._free_pages:
            self._free_pages -= weight
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((weight, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._admit()  # the documents behind it may fit now
            else:
                self._release(weight)  # it had been admitted at the same moment
            raise

    def _release(self, weight: int) -> None:
        self._free_pages += weight
        self._admit()

    def _admit(self) -> None:
        while self._waiting:
            weight, turn = self._waiting[0]
            if not turn.cancelled():
                if weight > self._free_pages:
                    return
                self._free_pages -= weight
                turn.set_result(None)
            self._waiting.popleft()
