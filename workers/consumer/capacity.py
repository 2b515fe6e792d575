"""How many documents a worker works on side by side: few long ones, or many short ones."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

_FULL_PAGES: Final = 16
"""Two windows. A longer document is worked on window by window, and counts no more."""
_LEAST_PAGES: Final = 4
"""What a document costs besides its pages: a lease, requests, files."""


class WeightedLimiter:
    """Room for so many documents of 16 pages or more, or for up to four times as many shorter ones.

    Four documents of two pages leave a device idle while the next ones are on their way, sixteen hardly do, and they
    hold no more pages in memory than four long ones. Who came first goes first, so that a long document is not passed
    by for good.
    """

    def __init__(self, long_documents: int) -> None:
        self._free = long_documents * _FULL_PAGES
        self.max_documents = self._free // _LEAST_PAGES
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def acquire(self, pages: int) -> AsyncIterator[None]:
        """For a document of so many pages, 0 where that is not known. Waits until there is one."""
        taken = min(max(pages, _LEAST_PAGES), _FULL_PAGES) if pages else _FULL_PAGES
        await self._take(taken)
        try:
            yield
        finally:
            self._give_back(taken)

    async def _take(self, wanted: int) -> None:
        if not self._waiting and wanted <= self._free:
            self._free -= wanted
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((wanted, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._admit()  # those behind it may find room
            else:
                self._give_back(wanted)  # it had been given its place at the same moment
            raise

    def _give_back(self, taken: int) -> None:
        self._free += taken
        self._admit()

    def _admit(self) -> None:
        while self._waiting:
            wanted, turn = self._waiting[0]
            if not turn.cancelled():
                if wanted > self._free:
                    return
                self._free -= wanted
                turn.set_result(None)
            self._waiting.popleft()
