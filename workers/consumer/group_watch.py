"""Reports topics that nothing reads: no worker of the group has a partition of them, and they may be missing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from ingestion.errors import IngestError

log = structlog.get_logger(__name__)


class GroupWatch:
    """Asks `find_unassigned` for the topics without a consumer every `every_s`. The answer None changes nothing."""

    def __init__(self, find_unassigned: Callable[[], Awaitable[set[str] | None]], every_s: float) -> None:
        self._find_unassigned = find_unassigned
        self._every_s = every_s
        self._suspected: set[str] = set()
        self.unassigned: list[str] = []
        """The topics that two questions in a row have found without a consumer, sorted."""

    async def run(self) -> None:
        """Log each change. Ends when cancelled."""
        while True:
            await asyncio.sleep(self._every_s)
            try:
                found = await self._find_unassigned()
            except IngestError as error:  # the breakers report a broker that is down
                log.debug("group not described", cause=error.message)
                continue
            if found is None:
                continue
            confirmed = sorted(found & self._suspected)
            self._suspected = found
            if confirmed and confirmed != self.unassigned:
                log.warning("topics without a consumer", topics=confirmed)
            elif self.unassigned and not confirmed:
                log.info("all topics have a consumer")
            self.unassigned = confirmed
