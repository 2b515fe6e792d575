"""What remains of generations that nobody searches or writes any more: removed, step by step, repeatably."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from ingestion.catalogue.generations import FIRST, Binding, Generation, index_of
from ingestion.model import Document
from ingestion.ports import Bindings, DocumentReader, Generations, ReembeddingRecords, VectorStore
from ingestion.retrying import retrying
from workers.attempt.store import PageStore

log = structlog.get_logger(__name__)

_DOCUMENTS_AT_ONCE: Final = 100


class CleanupRecords(DocumentReader, Bindings, Generations, ReembeddingRecords, Protocol):
    """What the removal of a generation reads and writes."""


@dataclass(frozen=True, slots=True)
class GenerationCleanup:
    """Index and blobs go, and the records of documents and pages come to speak of the current generation alone."""

    documents: CleanupRecords
    vectors: VectorStore
    store: PageStore

    async def run(self, collection: str) -> None:
        """Remove every generation that is leaving, once the rest that was set for it is over.

        The rest is for workers whose leases were cut off at the switch: they may not have noticed yet, and what they
        still write must go to the old index, not to a new one that has taken over its name.
        """
        bound = await self.documents.binding(collection)
        if bound is None or not bound.leaving:
            return
        rest_s = await self.documents.rest_of_leaving_s(collection)
        if rest_s > 0:
            log.info("former vectors rest", collection=collection, seconds=round(rest_s, 1))
            await asyncio.sleep(rest_s)
        for generation in bound.leaving:
            await self._clear(bound, generation)

    async def _clear(self, bound: Binding, generation: Generation) -> None:
        collection, current = bound.collection, bound.current.number
        async for document in self._documents(collection):
            await self.store.remove_blobs(document, generation.number)
            await retrying(self.documents.settle, document, current)
        index = index_of(collection, generation.number)
        if current == FIRST:
            await retrying(self.vectors.drop, index)
        elif generation.number == FIRST:
            # Its index has the very name that is to lead to the new one.
            await retrying(self.vectors.drop, index)
            await retrying(self.vectors.point, collection, index_of(collection, current))
        else:
            await retrying(self.vectors.point, collection, index_of(collection, current))
            await retrying(self.vectors.drop, index)
        await retrying(self.documents.forget_leaving, collection, generation.number)
        log.info("generation removed", collection=collection, generation=generation.number)

    async def _documents(self, collection: str) -> AsyncIterator[Document]:
        """In whatever state: one that has not become ready may have left something, too."""
        after: str | None = None
        while batch := await self.documents.list(collection, limit=_DOCUMENTS_AT_ONCE, after=after):
            for document in batch:
                yield document
            after = batch[-1].id
