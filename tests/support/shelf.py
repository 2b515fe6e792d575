"""Documents in all three stores, for tests that damage them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from motor.motor_asyncio import AsyncIOMotorClient

from ingestion.bootstrap import Services
from ingestion.model import Document, Page, PageVectors, codes_keys, document_prefix, source_key, terms_keys
from ingestion.vectors.encoding import VectorEncoding
from tests.support.documents import LEASE_MS, document
from tests.support.embedders import WordEmbedder
from workers.attempt.store import PageStore
from workers.audit.auditor import Auditor
from workers.audit.mismatch import Mismatch

PAGES: Final = 4
PATCHES: Final = 5
OTHER_PAGES: Final = 3
WITH_CODES = True
"""False: documents as an earlier release stored them, without sign codes and terms."""


@dataclass(frozen=True)
class Shelf:
    """Stores with documents, and ways to damage their data directly."""

    services: Services
    collection: str
    records: Any
    """The database, for damage that no port can do."""

    async def put(
        self,
        id_: str,
        pages: int = PAGES,
        *,
        written: int | None = None,
        encoding: VectorEncoding = VectorEncoding(),  # immutable
    ) -> Document:
        """A document that is ready, or where less is `written` than it has `pages`, still being processed."""
        store = PageStore(self.services.documents, self.services.blobs, self.services.vectors, encoding)
        first = await self.services.documents.reserve_page_keys(pages)
        fresh = replace(document(id_, self.collection), object_key=source_key(id_), pages=pages, first_page_key=first)
        await self.services.blobs.put(source_key(id_), b"%PDF-", "application/pdf")
        await self.services.documents.insert(fresh)
        await self.services.documents.mark_queued(fresh)
        claimed = await self.services.documents.claim(id_, "w", LEASE_MS)
        await store.prepare(claimed, WordEmbedder())
        numbers = range(1, (pages if written is None else written) + 1)
        codes = store.code_writer(claimed, claimed.generation, 0)
        await store.write(claimed, [page_of(number, claimed.page_key(number)) for number in numbers], codes)
        if not WITH_CODES:
            await self.services.blobs.delete(codes_keys(id_, pages))
        if written is not None:
            return claimed
        done = await store.completed(claimed, codes) if WITH_CODES else claimed
        return await self.services.documents.finish(done)

    async def document(self, id_: str) -> Document:
        found = await self.services.documents.get(id_)
        assert found is not None
        return found

    async def holdings(self, id_: str) -> tuple[int, int, int]:
        """How many objects, page records and rows there are of a document."""
        objects = await self.services.blobs.list_keys(document_prefix(id_))
        totals = await self.services.documents.page_totals([id_])
        found = await self.document(id_)
        rows = await self.services.vectors.count_rows(self.collection, found.first_page_key, found.pages)
        return len(objects), totals[id_].pages, rows

    async def mismatches(self, **options: Any) -> list[Mismatch]:
        return [mismatch async for mismatch in auditor(self.services).mismatches(**options)]

    async def forget(self, found: Document) -> None:
        """Lose the document's record, and nothing else."""
        await self.records["documents"].delete_one({"_id": found.id})


def auditor(services: Services, *, orphan_grace_s: float = 0.0, settle_s: float = 0.0) -> Auditor:
    return Auditor(services.documents, services.blobs, services.vectors, orphan_grace_s, settle_s)


def page_of(number: int, page_key: int, patches: int = PATCHES) -> PageVectors:
    vectors = np.eye(32, dtype=np.float32)[:patches]
    return PageVectors(Page(number, 10, 10, b"picture", "text"), page_key, vectors)


def whole(pages: int) -> tuple[int, int, int]:
    return objects_of(pages), pages, pages * PATCHES


def objects_of(pages: int) -> int:
    """The file, and for each page a picture and vectors, and the sign codes and the terms of all pages."""
    return 1 + 2 * pages + len(codes_keys("", pages)) + len(terms_keys("", pages))


@asynccontextmanager
async def open_shelf(services: Services, collection: str) -> AsyncIterator[Shelf]:
    """With two ready documents, `d1` and `d2`."""
    mongo = services.settings.mongo
    client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(mongo.mongo_uri)
    shelf = Shelf(services, collection, client[mongo.mongo_database])
    try:
        await shelf.put("d1")
        await shelf.put("d2", OTHER_PAGES)
        yield shelf
    finally:
        await services.vectors.drop(collection)
        await client.drop_database(mongo.mongo_database)
        client.close()
