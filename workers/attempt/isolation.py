"""Which jobs of one worker may run beside each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from ingestion.model import Document

_ALONE_AFTER_OUTAGES: Final = 2


def is_suspect(document: Document, max_attempts: int) -> bool:
    """Whether the next attempt should run alone.

    Other jobs may have ended the earlier ones before the last attempt. After several outages in a row, the document
    itself may make the server fail.
    """
    return document.attempts + 1 == max_attempts or document.outages >= _ALONE_AFTER_OUTAGES


class SharedExclusiveLock:
    """Jobs hold it shared and run side by side. A suspect job holds it alone.

    A job is suspect when its attempts ended too often without an outcome. If it ends the worker, no other document
    loses an attempt. If it succeeds, another job had caused its failures. An exclusive holder, also one that still
    waits, makes all later callers wait.
    """

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._shared_holders = 0
        self.is_exclusive_wanted = False
        """Whether a job holds the lock alone, or waits to."""

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        async with self._changed:
            await self._changed.wait_for(lambda: not self.is_exclusive_wanted)
            self._shared_holders += 1
        try:
            yield
        finally:
            self._shared_holders -= 1
            await self._notify()

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        async with self._changed:
            await self._changed.wait_for(lambda: not self.is_exclusive_wanted)
            self.is_exclusive_wanted = True
            try:
                await self._changed.wait_for(lambda: self._shared_holders == 0)
            except BaseException:
                self.is_exclusive_wanted = False
                self._changed.notify_all()
                raise
        try:
            yield
        finally:
            self.is_exclusive_wanted = False
            await self._notify()

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()
