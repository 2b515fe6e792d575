"""Pages with fewer rows in the index than vectors in their blobs: every count is exact."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import replace

import numpy as np
import pytest

from ingestion.bootstrap import Services
from ingestion.model import Document, DocumentState, source_key, vectors_key
from ingestion.removal import Remover
from ingestion.vectors.blob import decode_blob
from ingestion.vectors.encoding import VectorEncoding
from tests.support.documents import LEASE_MS, document
from tests.support.embedders import WordEmbedder
from tests.support.shelf import PATCHES, Shelf, open_shelf, page_of
from workers.attempt.store import PageStore

PAGES = 4
POOLED = VectorEncoding(index_pooling=4, blob_precision="int8")
ROWS = 2
"""Of PATCHES vectors, pooled by 4."""


@pytest.fixture
async def shelf(services: Services, collection: str) -> AsyncIterator[Shelf]:
    async with open_shelf(services, collection) as shelf:
        yield shelf


async def uploaded(shelf: Shelf, id_: str = "d3") -> Document:
    documents = shelf.services.documents
    first = await documents.reserve_page_keys(PAGES)
    fresh = replace(document(id_, shelf.collection), object_key=source_key(id_), pages=PAGES, first_page_key=first)
    await shelf.services.blobs.put(source_key(id_), b"%PDF-", "application/pdf")
    await documents.insert(fresh)
    await documents.mark_queued(fresh)
    return fresh


async def attempt(shelf: Shelf, found: Document, encoding: VectorEncoding, numbers: Iterable[int]) -> Document:
    """Claim the document and write these pages, as a worker with that encoding does."""
    stores = shelf.services
    store = PageStore(stores.documents, stores.blobs, stores.vectors, encoding=encoding)
    claimed = await stores.documents.claim(found.id, "w", LEASE_MS)
    codes = store.code_writer(claimed, await store.prepare(claimed, WordEmbedder()), claimed.pages_done)
    await store.write(claimed, [page_of(number, claimed.page_key(number)) for number in numbers], codes)
    return claimed


async def rows_of(shelf: Shelf, found: Document) -> int:
    return await shelf.services.vectors.count_rows(shelf.collection, found.first_page_key, found.pages)


async def test_pages_have_fewer_rows_than_their_blobs_have_vectors(shelf: Shelf) -> None:
    claimed = await attempt(shelf, await uploaded(shelf), POOLED, range(1, PAGES + 1))
    await shelf.services.documents.finish(claimed)
    assert await rows_of(shelf, claimed) == PAGES * ROWS
    kept = decode_blob(await shelf.services.blobs.get(vectors_key(claimed.id, 2)))
    np.testing.assert_array_equal(kept, np.eye(32, dtype=np.float32)[:PATCHES])
    records = await shelf.services.documents.pages_by_key(claimed.page_keys)
    assert {(record.patches, record.rows) for record in records.values()} == {(PATCHES, ROWS)}
    assert await shelf.mismatches() == []


async def test_a_second_attempt_with_fewer_rows_leaves_none_of_the_first(shelf: Shelf) -> None:
    first = await attempt(shelf, await uploaded(shelf), VectorEncoding(), range(1, PAGES + 1))
    await shelf.services.documents.release(first.id, first.fence)
    second = await attempt(shelf, first, POOLED, range(1, PAGES + 1))
    await shelf.services.documents.finish(second)
    assert await rows_of(shelf, second) == PAGES * ROWS
    assert await shelf.mismatches() == []


async def test_a_second_attempt_keeps_the_rows_up_to_the_checkpoint(shelf: Shelf) -> None:
    first = await attempt(shelf, await uploaded(shelf), VectorEncoding(), range(1, 4))
    await shelf.services.documents.checkpoint(first.id, first.fence, 2)
    await shelf.services.documents.release(first.id, first.fence)
    second = await attempt(shelf, first, POOLED, range(3, PAGES + 1))
    await shelf.services.documents.finish(second)
    assert await rows_of(shelf, second) == 2 * PATCHES + 2 * ROWS
    assert await shelf.mismatches() == []


async def test_a_row_too_few_is_found(shelf: Shelf) -> None:
    claimed = await attempt(shelf, await uploaded(shelf), POOLED, range(1, PAGES + 1))
    await shelf.services.documents.finish(claimed)
    await shelf.services.vectors.delete_pages(shelf.collection, claimed.page_key(2), 1)
    assert [found.what for found in await shelf.mismatches()] == [
        f"{(PAGES - 1) * ROWS} rows in place of {PAGES * ROWS}"
    ]


async def test_a_delete_takes_them_all(shelf: Shelf) -> None:
    claimed = await attempt(shelf, await uploaded(shelf), POOLED, range(1, PAGES + 1))
    stores = shelf.services
    await stores.documents.finish(claimed)
    await Remover(stores.documents, stores.vectors, stores.blobs, stores.queue, stores.progress).delete_document(
        claimed.id
    )
    assert await rows_of(shelf, claimed) == 0
    assert await shelf.mismatches() == []


async def test_records_from_before_have_a_row_for_each_patch(shelf: Shelf) -> None:
    await shelf.records["pages"].update_many({"document_id": "d1"}, {"$unset": {"rows": ""}})
    found = await shelf.document("d1")
    assert found.state is DocumentState.READY
    assert {record.rows for record in (await shelf.services.documents.pages_by_key(found.page_keys)).values()} == {
        None
    }
    assert await shelf.mismatches() == []
