"""A limit on the bytes that tasks reserve in memory together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from ingestion.concurrency.deadline import within_budget
from ingestion.errors import DependencyUnavailable


@dataclass(slots=True)
class ReservedBytes:
    """The bytes that one task has reserved."""

    _budget: ByteBudget
    reserved_bytes: int

    def resize(self, reserved_bytes: int) -> None:
        """Change the reservation to the bytes that are really needed. Never waits, and may exceed the limit."""
        self._budget.take(reserved_bytes - self.reserved_bytes)
        self.reserved_bytes = reserved_bytes


class ByteBudget:
    """First come, first served. A task that needs more than the whole limit waits until it is alone."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self.reserved_bytes = 0

    @asynccontextmanager
    async def reserve(self, expected_bytes: int) -> AsyncIterator[ReservedBytes]:
        """Wait until `expected_bytes` are free, and reserve them for the length of the block.

        Raises DependencyUnavailable when the caller's budget of time ends before that.
        """
        if self._waiting or not self._has_room(expected_bytes):
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append((expected_bytes, turn))
            try:
                async with within_budget("s3"):  # a holder of bytes mostly waits for the object store
                    await turn
            except (asyncio.CancelledError, DependencyUnavailable):
                if turn.done() and not turn.cancelled():  # admitted and cancelled at the same moment
                    self.take(-expected_bytes)
                self._admit()
                raise
        else:
            self.take(expected_bytes)
        reserved = ReservedBytes(self, expected_bytes)
        try:
            yield reserved
        finally:
            self.take(-reserved.reserved_bytes)

    def take(self, more_bytes: int) -> None:
        self.reserved_bytes += more_bytes
        if more_bytes < 0:
            self._admit()

    def _has_room(self, expected_bytes: int) -> bool:
        return not self.reserved_bytes or self.reserved_bytes + expected_bytes <= self._limit_bytes

    def _admit(self) -> None:
        while self._waiting:
            expected_bytes, turn = self._waiting[0]
            if turn.done():  # its task was cancelled
                self._waiting.popleft()
            elif self._has_room(expected_bytes):
                self._waiting.popleft()
                self.reserved_bytes += expected_bytes
                turn.set_result(None)
            else:
                return
