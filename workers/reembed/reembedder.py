"""Moves a collection from one embedder to another while it is searched, filled and cleaned up.

    begin    record the next generation in the collection's record, and make its index
    fill     embed every ready document again, from its checkpoint; workers continue with the current generation
    check    count the rows of each document
    close    workers begin no document in the current generation; fence off and queue those that are being processed
    follow   embed the documents that became ready in between
    switch   one compare-and-set on the collection's record
    clear    remove the old generation

A run that is cut off at any point can be repeated, and then continues, or can be aborted.

At the switch every ready document is complete in both generations:
- A worker first writes the generation into the document's record, and then checks that the collection is open
  (`PageStore.confirm`). If the collection is closed, the worker defers the document.
- If it is open, the record was written before the closing. The fencing comes after the closing, so it finds the
  document. If the document is still being processed, its lease ends and its outcome is refused. If it is ready,
  `follow` moves it.

So no document becomes ready in the old generation after that. A search reads the collection's record at its start and
at its end, and therefore uses one generation. A document that was fenced off, or that comes later, waits, without a
counted attempt, for a worker with the new embedder. A delete first marks the document, and then removes it from every
generation in the record. The mover removes what it writes after that, because its checkpoint is refused.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from ingestion.catalogue.generations import Binding, index_of
from ingestion.catalogue.holds import LEASE_S, held
from ingestion.errors import Conflict, IngestError, NotFound, WorkerFault
from ingestion.model import Document, IngestJob, check_qualified
from ingestion.ports import (
    Bindings,
    CollectionCatalogue,
    DocumentReader,
    Generations,
    Holds,
    JobQueue,
    Outbox,
    RecordInventory,
    ReembeddingRecords,
    VectorStore,
)
from ingestion.retrying import retrying
from workers.audit.rows import RowsAudit
from workers.reembed.cleanup import GenerationCleanup
from workers.reembed.hold_renewal import while_held
from workers.reembed.mover import Mover

log = structlog.get_logger(__name__)

_DOCUMENTS_AT_ONCE: Final = 100
_OPEN_PASSES: Final = 5
"""Passes while the collection stays open. Each pass takes the documents that came in during the pass before it."""
_CHECKS: Final = 3


class ReembedderRecords(
    DocumentReader,
    CollectionCatalogue,
    Holds,
    Bindings,
    Generations,
    ReembeddingRecords,
    RecordInventory,
    Outbox,
    Protocol,
):
    """The records that a re-embedding reads and writes."""


@dataclass(frozen=True, slots=True)
class Reembedder:
    """`rest_s` is the time of a lease. After it, every worker has noticed that its leases ended."""

    records: ReembedderRecords
    vectors: VectorStore
    queue: JobQueue
    mover: Mover
    cleanup: GenerationCleanup
    rest_s: float
    hold_s: float = LEASE_S

    async def run(self, collection: str, on_pages: Callable[[int], None] = lambda pages: None) -> Binding:
        """Fill the collection with the mover's embedder, from the last checkpoints. Returns the binding after it.

        Safe to repeat, also after the end. Raises NotFound for an unknown collection, CollectionHeld while another
        process has it, Conflict while it is being re-embedded with another embedder, LeaseLost, and the errors of the
        stores and of the embedder. Until the switch the collection uses the old embedder.
        """
        check_qualified(collection)
        async with held(self.records, collection, self.hold_s) as hold:
            return await while_held(hold, self._run(collection, on_pages))

    async def _run(self, collection: str, on_pages: Callable[[int], None]) -> Binding:
        embedder = self.mover.embedder
        await self.records.require_active(collection)
        await self.cleanup.run(collection)
        bound = await _bound(self.records, collection)
        if bound.current.fingerprint == embedder.fingerprint:
            return bound
        bound = await self.records.begin_generation(collection, embedder.fingerprint, embedder.dim)
        assert bound.next is not None
        generation = bound.next.number
        log.info("re-embedding", collection=collection, generation=generation, embedder=embedder.fingerprint)
        await retrying(self.vectors.ensure, index_of(collection, generation), embedder.dim)
        for _ in range(_OPEN_PASSES):
            if not await self._fill(collection, generation, on_pages):
                break
        await self._check(collection, generation, on_pages)
        await self._take_over(collection, generation, on_pages)
        await self.cleanup.run(collection)
        return await _bound(self.records, collection)

    async def _fill(self, collection: str, generation: int, on_pages: Callable[[int], None]) -> int:
        return await self.mover.move(self._missing(collection, generation), generation, on_pages)

    async def _missing(self, collection: str, generation: int) -> AsyncIterator[Document]:
        after = ""
        while batch := await retrying(
            self.records.missing_from, collection, generation, after=after, limit=_DOCUMENTS_AT_ONCE
        ):
            for document in batch:
                yield document
            after = batch[-1].id

    async def _check(self, collection: str, generation: int, on_pages: Callable[[int], None]) -> None:
        """Embed documents with a wrong number of rows again, and remove rows that belong to no document.

        A run or a vector store that was killed can leave both.
        """
        for _ in range(_CHECKS):
            wrong = await self._wrong(collection, generation)
            if not wrong:
                return
            for document in wrong:
                await self.mover.remove_vectors(document, generation)
                with suppress(Conflict):  # deleted meanwhile
                    await retrying(self.records.advance, document, generation, 0)
            await self._fill(collection, generation, on_pages)
        raise WorkerFault(f"the new index of {collection!r} keeps losing rows: see what the vector store logs")

    async def _wrong(self, collection: str, generation: int) -> Sequence[Document]:
        end = await self.records.next_page_key()
        audit = RowsAudit(self.records, self.vectors, end, True, collection, generation)
        ids = set()
        async for recheck in audit.suspects():
            ids |= {mismatch.document_id for mismatch in await recheck() if not mismatch.is_repaired}
        return list((await self.records.known(ids)).values())

    async def _take_over(self, collection: str, generation: int, on_pages: Callable[[int], None]) -> None:
        closing = await self.records.close_generation(collection, generation)
        fenced: Sequence[Document] = ()
        try:
            fenced = await self.records.fence_off(collection)
            await self._fill(collection, generation, on_pages)
            await self.records.switch_generation(collection, generation, closing, round(self.rest_s * 1000))
        except BaseException:
            await self._reopen(collection, closing)
            raise
        finally:
            await self._publish(fenced)
        log.info("switched", collection=collection, generation=generation, begun_again=len(fenced))

    async def _reopen(self, collection: str, closing: str) -> None:
        try:
            await self.records.open_generation(collection, closing)
        except IngestError as error:  # The next run opens it. The error that led here is raised.
            log.warning("collection stays closed to workers", collection=collection, cause=error.message)

    async def _publish(self, fenced: Sequence[Document]) -> None:
        """Publish the jobs. The janitor publishes those that fail here: their outbox is pending."""
        for document in fenced:
            try:
                await self.queue.publish(IngestJob.of(document))
                await self.records.mark_queued(document)
            except IngestError as error:
                log.warning("job not published yet", document_id=document.id, cause=error.message)


async def abort_reembedding(
    records: ReembedderRecords, cleanup: GenerationCleanup, collection: str, hold_s: float = LEASE_S
) -> Binding:
    """Abandon the next generation, if there is one, and remove it. Returns the binding of the collection.

    Safe to repeat. Raises NotFound for an unknown collection, CollectionHeld while another process has it.
    """
    check_qualified(collection)

    async def abort() -> Binding:
        await records.abandon_generation(collection)
        await cleanup.run(collection)
        return await _bound(records, collection)

    async with held(records, collection, hold_s) as hold:
        return await while_held(hold, abort())


async def _bound(records: ReembedderRecords, collection: str) -> Binding:
    bound = await records.binding(collection)
    if bound is None:
        raise NotFound(f"there is no collection {collection!r} with pages in it")
    return bound
