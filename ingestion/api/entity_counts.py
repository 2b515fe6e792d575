"""The metric `milvus_collection_entities`: rows of each collection in Milvus, counted when metrics are scraped."""

from __future__ import annotations

import asyncio
import time
from math import inf
from typing import Final

import structlog

from ingestion import metrics
from ingestion.concurrency.tasks import gather_or_cancel
from ingestion.errors import IngestError
from ingestion.ports import CollectionCatalogue, VectorStore

log = structlog.get_logger(__name__)

TIMEOUT_S: Final = 2.0
INTERVAL_S: Final = 30.0
MAX_TIME_SHARE: Final = 0.01
"""Share of the time that counting may take. Milvus Lite reads all rows, and answers nothing else meanwhile."""


class EntityCounts:
    """Updates the metric. The rows of documents that are not ready yet are included."""

    def __init__(self, catalogue: CollectionCatalogue, vectors: VectorStore) -> None:
        self._catalogue = catalogue
        self._vectors = vectors
        self._shown: set[str] = set()
        self._due_at = -inf

    async def refresh(self) -> None:
        """Count the rows if the interval has passed. A collection not counted within TIMEOUT_S keeps its old value.

        Raises nothing where a store does not answer.
        """
        began = time.monotonic()
        if began < self._due_at:
            return
        self._due_at = inf  # so that no other scrape starts a count meanwhile
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._count_all()
        except (IngestError, TimeoutError) as error:
            log.warning("rows not counted", cause=str(error) or "no answer in time")
        finally:
            ended = time.monotonic()
            self._due_at = ended + max(INTERVAL_S, (ended - began) / MAX_TIME_SHARE)

    async def _count_all(self) -> None:
        collections = await self._catalogue.collections()
        await gather_or_cancel(*(self._count(collection) for collection in collections))
        for gone in self._shown - set(collections):
            metrics.ENTITIES.remove(gone)
        self._shown &= set(collections)

    async def _count(self, collection: str) -> None:
        metrics.ENTITIES.labels(collection).set(await self._vectors.count(collection))
        self._shown.add(collection)
