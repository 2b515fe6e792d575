"""Record when a collection was last used."""

from __future__ import annotations

import time
from typing import Final

import structlog

from ingestion.concurrency.deadline import budget
from ingestion.errors import IngestError
from ingestion.ports import CollectionCatalogue

log = structlog.get_logger(__name__)

EVERY_S: Final = 60.0
"""Each process records the use of a collection at most this often. Expiry counts in days."""

_WRITE_S: Final = 2.0
"""An unavailable MongoDB delays a request by at most this time, once in EVERY_S."""


class UsageRecorder:
    """Writes the time of last use, at most once in `every_s` for each collection."""

    def __init__(self, catalogue: CollectionCatalogue, every_s: float = EVERY_S) -> None:
        self._catalogue = catalogue
        self._every_s = every_s
        self._recorded_at: dict[str, float] = {}

    async def record(self, collection: str) -> None:
        """Record that the collection is used now. Best effort: an error is logged, never raised."""
        now = time.monotonic()
        if now - self._recorded_at.get(collection, -self._every_s) < self._every_s:
            return
        # Forget expired times, so that the table does not grow without a bound.
        self._recorded_at = {name: at for name, at in self._recorded_at.items() if now - at < self._every_s}
        self._recorded_at[collection] = now
        try:
            with budget(_WRITE_S):
                await self._catalogue.touch_collections([collection])
        except IngestError as error:
            log.warning("use not recorded", collection=collection, cause=error.message)
