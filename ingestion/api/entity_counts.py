"""How many rows each collection has in the ANN index, counted when somebody asks for the metrics."""

from __future__ import annotations

import asyncio
import time
from math import inf
from typing import Final

import structlog

from ingestion import metrics
from ingestion.concurrency.tasks import gather_or_cancel
from ingestion.errors import IngestError
from ingestion.ports import DocumentStore, VectorStore

log = structlog.get_logger(__name__)

TIMEOUT_S: Final = 2.0
EVERY_S: Final = 30.0
LARGEST_SHARE: Final = 0.01
"""Of the time, spent on counting: a small server goes through all its rows, and answers nobody else meanwhile."""


class EntityCounts:
    """Keeps `milvus_collection_entities`. The rows of documents that are not ready yet count as well."""

    def __init__(self, documents: DocumentStore, vectors: VectorStore) -> None:
        self._documents = documents
        self._vectors = vectors
        self._shown: set[str] = set()
        self._due_at = -inf

    async def refresh(self) -> None:
        """Count, where it is due again. Best effort: what is not counted in TIMEOUT_S keeps its old figure."""
        began = time.monotonic()
        if began < self._due_at:
            return
        self._due_at = inf  # Nobody else begins meanwhile.
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._count_all()
        except (IngestError, TimeoutError) as error:
            log.warning("rows not counted", cause=str(error) or "no answer in time")
        finally:
            ended = time.monotonic()
            self._due_at = ended + max(EVERY_S, (ended - began) / LARGEST_SHARE)

    async def _count_all(self) -> None:
        collections = await self._documents.collections()
        await gather_or_cancel(*(self._count(collection) for collection in collections))
        for gone in self._shown - set(collections):
            metrics.ENTITIES.remove(gone)
        self._shown &= set(collections)

    async def _count(self, collection: str) -> None:
        metrics.ENTITIES.labels(collection).set(await self._vectors.count(collection))
        self._shown.add(collection)
