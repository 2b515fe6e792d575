"""Who may work beside whom in one worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class SharedExclusiveLock:
    """Jobs work side by side; one that has ended without a verdict too often works alone.

    If it takes the worker down with it, no other document loses an attempt, and if it ends well, it had been the
    victim of a neighbour. Those who come while somebody is alone, or waits to be, wait as well.
    """

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._inside = 0
        self.is_exclusive_wanted = False
        """Whether somebody is alone here, or waits to be."""

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        async with self._changed:
            await self._changed.wait_for(lambda: not self.is_exclusive_wanted)
            self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
            await self._tell()

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        async with self._changed:
            await self._changed.wait_for(lambda: not self.is_exclusive_wanted)
            self.is_exclusive_wanted = True
            try:
                await self._changed.wait_for(lambda: self._inside == 0)
            except BaseException:
                self.is_exclusive_wanted = False
                self._changed.notify_all()
                raise
        try:
            yield
        finally:
            self.is_exclusive_wanted = False
            await self._tell()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()
