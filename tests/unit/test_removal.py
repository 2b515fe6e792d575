"""Deleting documents and collections, with the ports in memory."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from ingestion.errors import CollectionHeld, NotFound
from ingestion.messages import Record
from ingestion.model import Document, Page, PageVectors, document_prefix, source_key
from ingestion.removal import Remover
from tests.memory import MemoryBlobStore, MemoryDocumentStore, MemoryJobQueue, MemoryProgress, MemoryVectorStore
from tests.support.documents import LEASE_MS, S, document, in_state, page

COLLECTION = "c"
PAGES = 2


@dataclass
class Stores:
    documents: MemoryDocumentStore = field(default_factory=MemoryDocumentStore)
    vectors: MemoryVectorStore = field(default_factory=MemoryVectorStore)
    blobs: MemoryBlobStore = field(default_factory=MemoryBlobStore)
    queue: MemoryJobQueue = field(default_factory=MemoryJobQueue)
    progress: MemoryProgress = field(default_factory=MemoryProgress)

    @property
    def remover(self) -> Remover:
        return Remover(self.documents, self.vectors, self.blobs, self.queue, self.progress)

    async def filled(self, id_: str = "d1") -> Document:
        """A ready document with everything that a worker writes."""
        ready = await in_state(self.documents, S.READY, id_)
        await self.documents.bind_collection(COLLECTION, "minilm", 4)
        await self.vectors.ensure(COLLECTION, 4)
        await self.blobs.put(source_key(id_), b"%PDF-", "application/pdf")
        first = ready.first_page_key
        await self.documents.put_pages([page(first + n, id_) for n in range(PAGES)])
        empty = Page(page_number=1, width_px=1, height_px=1, image=b"", text="")
        rows = np.ones((3, 4), np.float32)
        await self.vectors.upsert(COLLECTION, [PageVectors(empty, first + n, rows) for n in range(PAGES)])
        return ready

    async def is_empty(self) -> bool:
        rows, objects = await self.vectors.count(COLLECTION), self.blobs.objects
        return not (rows or objects or self.documents.state.documents or self.documents.state.pages)


@pytest.fixture
def stores() -> Stores:
    return Stores()


def states(events: list[Record]) -> list[bool]:
    return [b'"state":"deleted"' in (event.value or b"") for event in events]


async def test_a_deleted_document_is_gone_from_every_store_and_announced(stores: Stores) -> None:
    await stores.filled()
    await stores.progress.report("d1", status="ready", message="", processed=2, total=2)
    await stores.remover.delete_document("d1")
    assert await stores.is_empty()
    assert stores.progress.tasks == {}
    assert states(stores.queue.events) == [True]


async def test_deleting_an_unknown_document_is_not_found(stores: Stores) -> None:
    with pytest.raises(NotFound):
        await stores.remover.delete_document("unknown")


async def test_a_deletion_that_another_process_finished_leaves_the_next_upload_alone(stores: Stores) -> None:
    await stores.filled()
    listed = await stores.documents.begin_delete("d1")
    await stores.remover.delete_document("d1")
    again = replace(document(), first_page_key=listed.page_keys.stop)
    await stores.documents.insert(again)
    await stores.blobs.put(source_key("d1"), b"%PDF- again", "application/pdf")
    assert not await stores.remover.finish_delete(listed)
    assert await stores.blobs.list_keys(document_prefix("d1")) == [source_key("d1")]
    assert (found := await stores.documents.get("d1")) is not None
    assert found.first_page_key == again.first_page_key


async def test_a_deleted_collection_has_no_documents_no_index_and_no_record(stores: Stores) -> None:
    await stores.filled("d1")
    await in_state(stores.documents, S.QUEUED, "d2")
    await stores.remover.delete_collection(COLLECTION)
    assert await stores.is_empty()
    assert await stores.documents.collection(COLLECTION) is None
    await stores.remover.delete_collection(COLLECTION)


async def test_a_collection_that_another_process_holds_is_not_deleted_until_the_hold_ends(stores: Stores) -> None:
    await stores.filled()
    await stores.documents.hold_collection(COLLECTION, "another", LEASE_MS)
    with pytest.raises(CollectionHeld):
        await stores.remover.delete_collection(COLLECTION)
    stores.documents.clock.advance(LEASE_MS / 1000)
    await stores.remover.delete_collection(COLLECTION)
    assert await stores.is_empty()
