"""How many documents a worker processes side by side: few long ones, or many short ones."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Final

_MAX_WEIGHT_PAGES: Final = 16
"""Two windows. A longer document is processed window by window, and weighs no more."""
_MIN_WEIGHT_PAGES: Final = 4
"""What a document costs besides its pages: a lease, requests, files."""


_held: ContextVar[HeldCapacity | None] = ContextVar("held_capacity", default=None)


@asynccontextmanager
async def suspended_capacity() -> AsyncIterator[None]:
    """Give the capacity of the current job to other jobs during the block. No effect outside of a job.

    Waits at the end of the block until the job has its capacity again. Tasks that the job has started may use it at
    the same time: the job has its capacity again as soon as one of their blocks has ended.
    """
    held = _held.get()
    if held is None:
        yield
        return
    held.release()
    yield  # after an error, or a cancellation, the job ends and needs no capacity
    await held.take_back()


class HeldCapacity:
    """The capacity of one job."""

    def __init__(self, limiter: WeightedLimiter, weight: int) -> None:
        self._limiter = limiter
        self._weight = weight
        self._is_held = True
        self._is_closed = False
        self._taking_back = asyncio.Lock()

    def release(self) -> None:
        """Free the capacity. No effect where it is free already."""
        if self._is_held:
            self._is_held = False
            self._limiter._release(self._weight)

    async def take_back(self) -> None:
        """Wait for the capacity, ahead of jobs that have not begun. No effect where the job has it."""
        async with self._taking_back:
            if self._is_held or self._is_closed:
                return
            await self._limiter._acquire(self._weight, first=True)
            self._is_held = True
            if self._is_closed:  # the job has ended meanwhile
                self.release()

    def close(self) -> None:
        """Free the capacity for good."""
        self._is_closed = True
        self.release()


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
        held = HeldCapacity(self, weight)
        token = _held.set(held)
        try:
            yield
        finally:
            _held.reset(token)
            held.close()

    async def _acquire(self, weight: int, *, first: bool = False) -> None:
        """With `first` ahead of all that wait."""
        if (first or not self._waiting) and weight <= self._free_pages:
            self._free_pages -= weight
            return
        turn = asyncio.get_running_loop().create_future()
        waiting = (weight, turn)
        if first:
            self._waiting.appendleft(waiting)
        else:
            self._waiting.append(waiting)
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
