"""How many documents a worker processes side by side: few long ones, or many short ones.

A document whose pages wait for the long tries of other documents suspends its capacity, so that new documents begin
meanwhile. It never waits for its capacity again: it may hold a lock or a lane that other documents wait for. Where its
capacity is taken, the limiter goes into debt, and admits no new document until the debt is paid.
All documents that have begun, suspended or not, weigh at most twice the capacity.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

_MAX_WEIGHT_PAGES: Final = 16
"""Two windows. A longer document is processed window by window, and weighs no more."""
_MIN_WEIGHT_PAGES: Final = 4
"""What a document costs besides its pages: a lease, requests, files."""


@contextmanager
def suspended_capacity() -> Iterator[None]:
    """The current job waits for other jobs during the block, and needs no capacity. No effect outside of a job.

    Several tasks of a job may be in such blocks at a time. The job has its capacity again at the end of the last one.
    """
    held = _held.get()
    if held is None:
        yield
        return
    held.begin_wait()
    try:
        yield
    finally:
        held.end_wait()


class HeldCapacity:
    """The capacity of one job, and the number of its tasks that wait for other jobs."""

    def __init__(self, limiter: WeightedLimiter, weight: int, *, of_reserve: bool = False) -> None:
        self._limiter = limiter
        self.weight = weight
        self._of_reserve = of_reserve
        self._waits = 0
        self._is_closed = False

    def begin_wait(self) -> None:
        self._waits += 1
        if self._waits == 1 and not self._is_closed and not self._of_reserve:
            self._limiter.suspend(self)

    def end_wait(self) -> None:
        self._waits -= 1
        if self._waits == 0 and not self._is_closed and not self._of_reserve:
            self._limiter.resume(self)

    @contextmanager
    def held_by_this_job(self) -> Iterator[None]:
        """The current task is the job. The capacity is freed after the block."""
        token = _held.set(self)
        try:
            yield
        finally:
            _held.reset(token)
            self.close()

    def close(self) -> None:
        """Free the capacity for good, also where a task of the job still waits."""
        if self._waits and not self._of_reserve:
            self._limiter.resume(self)
        self._is_closed = True
        self._limiter.release(self.weight, to_reserve=self._of_reserve)


def weight_of(pages: int) -> int:
    """The capacity that a document of `pages` pages takes; 0 where the number is unknown."""
    return min(max(pages, _MIN_WEIGHT_PAGES), _MAX_WEIGHT_PAGES) if pages else _MAX_WEIGHT_PAGES


_held: ContextVar[HeldCapacity | None] = ContextVar("held_capacity", default=None)


class WeightedLimiter:
    """Capacity for `long_documents` documents of 16 pages or more, or for up to four times as many shorter ones.

    Four documents of two pages leave a device idle while the next ones are being prepared. Sixteen hardly do, and they
    hold no more pages in memory than four long ones. A reserve holds one more long document.
    """

    def __init__(self, long_documents: int) -> None:
        self._free_pages = long_documents * _MAX_WEIGHT_PAGES
        """Negative where resumed jobs had to take capacity that other jobs hold."""
        self._reserve_pages = _MAX_WEIGHT_PAGES
        self.max_documents = self._free_pages // _MIN_WEIGHT_PAGES
        self._suspendable_pages = self._free_pages
        """What more may be suspended. It bounds the memory of suspended documents."""
        self._suspended: set[HeldCapacity] = set()
        self.freed = asyncio.Event()
        """Is set whenever capacity becomes free."""
        self._not_suspended: dict[HeldCapacity, None] = {}
        """Jobs that wait for other jobs and keep their capacity, because too much is suspended. In order."""

    def fits(self, weight: int, *, of_reserve: bool = False) -> bool:
        """Whether a document of this weight can be admitted now. The reserve holds one long document."""
        return weight <= (self._reserve_pages if of_reserve else self._free_pages)

    def take(self, weight: int, *, of_reserve: bool = False) -> HeldCapacity:
        """Take the capacity at once. The caller has asked `fits`, and closes what it gets."""
        if of_reserve:
            self._reserve_pages -= weight
        else:
            self._free_pages -= weight
        return HeldCapacity(self, weight, of_reserve=of_reserve)

    def suspend(self, held: HeldCapacity) -> None:
        """Free the capacity of a job, now or as soon as few enough jobs are suspended."""
        self._not_suspended[held] = None
        self._suspend_next()

    def resume(self, held: HeldCapacity) -> None:
        """Let a job have its capacity again at once, ahead of new jobs."""
        if held in self._suspended:
            self._suspended.remove(held)
            self._suspendable_pages += held.weight
            self._free_pages -= held.weight
        else:
            del self._not_suspended[held]
        self._suspend_next()

    def release(self, weight: int, *, to_reserve: bool = False) -> None:
        if to_reserve:
            self._reserve_pages += weight
        else:
            self._free_pages += weight
        self.freed.set()

    def _suspend_next(self) -> None:
        while self._not_suspended:
            held = next(iter(self._not_suspended))
            if held.weight > self._suspendable_pages:
                return
            del self._not_suspended[held]
            self._suspended.add(held)
            self._suspendable_pages -= held.weight
            self.release(held.weight)
