"""When a collection was last used."""

from __future__ import annotations

import time
from typing import Final

import structlog

from ingestion.errors import IngestError
from ingestion.ports import DocumentStore

log = structlog.get_logger(__name__)

EVERY_S: Final = 60.0
"""A use is noted at most so often by each process: what it is needed for is days."""


class UsageRecorder:
    """Told of each upload and each search, of which it writes down next to nothing."""

    def __init__(self, documents: DocumentStore, every_s: float = EVERY_S) -> None:
        self._documents = documents
        self._every_s = every_s
        self._noted_at: dict[str, float] = {}

    async def record(self, collection: str) -> None:
        """The collection is in use now. Best effort: what cannot be noted is logged."""
        now = time.monotonic()
        if now - self._noted_at.get(collection, -self._every_s) < self._every_s:
            return
        # Those that are due again are forgotten, so that names do not pile up.
        self._noted_at = {name: at for name, at in self._noted_at.items() if now - at < self._every_s}
        self._noted_at[collection] = now
        try:
            await self._documents.touch_collections([collection])
        except IngestError as error:
            log.warning("use not noted", collection=collection, cause=error.message)
