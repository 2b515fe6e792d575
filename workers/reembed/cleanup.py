"""Removes generations that no process searches or writes. A removal that was interrupted can be repeated."""

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
    """The records that the removal of a generation reads and writes."""


@dataclass(frozen=True, slots=True)
class GenerationCleanup:
    """Removes index and blobs, and updates the records of documents and pages to the current generation."""

    records: CleanupRecords
    vectors: VectorStore
    store: PageStore

    async def run(self, collection: str) -> None:
        """Wait for the grace period of the leaving generations, then remove them.

        A worker that lost its lease at the switch may still write for a while. It must write to the old index, and not
        to a new index with the same name.
        """
        bound = await self.records.binding(collection)
        if bound is None or not bound.leaving:
            return
        rest_s = await self.records.rest_of_leaving_s(collection)
        if rest_s > 0:
            log.info("former vectors rest", collection=collection, seconds=round(rest_s, 1))
            await asyncio.sleep(rest_s)
        for generation in bound.leaving:
            await self._clear(bound, generation)

    async def _clear(self, bound: Binding, generation: Generation) -> None:
        collection, current = bound.collection, bound.current.number
        async for document in self._documents(collection):
            await self.store.remove_blobs(document, generation.number)
            await retrying(self.records.settle, document, current)
        index = index_of(collection, generation.number)
        if current == FIRST:
            await retrying(self.vectors.drop, index)
        elif generation.number == FIRST:
            # The alias of the new index needs the name of this index.
            await retrying(self.vectors.drop, index)
            await retrying(self.vectors.point, collection, index_of(collection, current))
        else:
            await retrying(self.vectors.point, collection, index_of(collection, current))
            await retrying(self.vectors.drop, index)
        await retrying(self.records.forget_leaving, collection, generation.number)
        log.info("generation removed", collection=collection, generation=generation.number)

    async def _documents(self, collection: str) -> AsyncIterator[Document]:
        """Documents in every state: a document that is not ready may have vectors too."""
        after: str | None = None
        while batch := await self.records.list(collection, limit=_DOCUMENTS_AT_ONCE, after=after):
            for document in batch:
                yield document
            after = batch[-1].id
