"""A collection passes from one embedder to another while it is searched, filled and weeded.

    begin    the collection's record names the next generation; its index is made
    fill     every ready document is embedded again, from its checkpoint on; workers go on with the current generation
    check    rows are counted, document by document
    close    no worker begins a document in the current generation; those being processed are fenced off and queued
    follow   documents that became ready in between
    switch   one compare-and-set on the collection's record
    clear    the old generation is removed

Cut off anywhere, it is run again and goes on, or is aborted.

Why no document is lost at the switch, nor visible twice or not at all: a worker writes the generation into the
document's record, and only then asks once more whether the collection is open (`PageStore.confirm`). Either it finds
the collection closed, and puts the document off; or it wrote the record before the collection was closed, so that the
fencing, which comes after the closing, finds the document: still being processed, then its lease is ended and its
verdict will be refused; or ready, then `follow` moves it. No document can become ready in the old generation after
that. So at the switch every ready document is complete in both, and each search, which reads the record first and once
more at its end, has seen one of them and not a mixture. A document that was fenced off, or comes later, is put off,
at no cost of attempts, until a worker with the new embedder takes it. A delete marks the document first and then
removes it from every generation that the record names; what the mover writes after that, it takes back, because its
checkpoint is refused.
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
from ingestion.model import Document, IngestJob, check_collection
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
"""Over what came in during the pass before, while the collection stays open. The last pass is made with it closed."""
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
    """What a re-embedding reads and writes."""


@dataclass(frozen=True, slots=True)
class Reembedder:
    """`rest_s` is how long workers may take to notice that their leases have been cut off: the time of a lease."""

    records: ReembedderRecords
    vectors: VectorStore
    queue: JobQueue
    mover: Mover
    cleanup: GenerationCleanup
    rest_s: float
    hold_s: float = LEASE_S

    async def run(self, collection: str, on_pages: Callable[[int], None] = lambda pages: None) -> Binding:
        """Fill the collection with the mover's embedder, from wherever that was left; what it is bound to then.

        Safe to repeat, also when it is done. Raises NotFound for an unknown collection, CollectionHeld while another
        process has it, Conflict where it is being re-embedded with something else, LeaseLost, and whatever the stores
        or the embedder raise: until the switch, the old embedder goes on serving.
        """
        check_collection(collection)
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
        """Documents whose rows are not as many as they should be are embedded once more, and rows of none removed.

        Either may be left by a run that was killed, or by a vector store that was.
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
        except IngestError as error:  # The next run opens it, and the error that led here must not be hidden.
            log.warning("collection stays closed to workers", collection=collection, cause=error.message)

    async def _publish(self, fenced: Sequence[Document]) -> None:
        """What cannot be published now, the janitor publishes: their outbox is pending."""
        for document in fenced:
            try:
                await self.queue.publish(IngestJob.of(document))
                await self.records.mark_queued(document)
            except IngestError as error:
                log.warning("job not published yet", document_id=document.id, cause=error.message)


async def abort_reembedding(
    records: ReembedderRecords, cleanup: GenerationCleanup, collection: str, hold_s: float = LEASE_S
) -> Binding:
    """Give up the generation that was begun, if one was, and remove it; what the collection is bound to.

    Safe to repeat. Raises NotFound for an unknown collection, CollectionHeld while another process has it.
    """
    check_collection(collection)

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
