"""Stored names of releases before 0.2: objects called `.bf16`, and Milvus collections called `colqwen_…`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, closing, contextmanager
from dataclasses import replace

import pytest
from pymilvus import MilvusClient

from ingestion.adapters.milvus import names
from ingestion.adapters.milvus.names import IndexNames, index_name, old_index_name
from ingestion.adapters.milvus.store import MilvusVectorStore
from ingestion.bootstrap import Services
from ingestion.model import Document, document_prefix, old_vectors_key, vectors_key
from ingestion.removal import Remover
from tests.support import shelf as support_shelf
from tests.support.archives import archiver, everything, search
from tests.support.documents import LEASE_MS
from tests.support.embedders import WordEmbedder
from tests.support.shelf import OTHER_PAGES, PAGES, Shelf, open_shelf, page_of, whole
from workers.attempt import store as attempt_store
from workers.attempt.store import PageStore
from workers.audit.mismatch import Mismatch, MismatchKind
from workers.bench.sample import read_pages


@contextmanager
def old_release() -> Iterator[None]:
    """Writes inside the block use old names, and no sign codes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(names, "index_name", lambda index, _: old_index_name(index))
        patch.setattr(attempt_store, "vectors_key", old_vectors_key)
        patch.setattr(support_shelf, "WITH_CODES", False)
        yield


@pytest.fixture
async def shelf(services: Services, collection: str) -> AsyncIterator[Shelf]:
    """Two documents of an old release."""
    # Another process, which has not seen any name yet.
    async with MilvusVectorStore(services.settings.milvus) as fresh, AsyncExitStack() as stack:
        with old_release():
            filled = await stack.enter_async_context(open_shelf(services, collection))
        yield replace(filled, services=replace(services, vectors=fresh))


@pytest.fixture
def milvus(services: Services) -> Iterator[MilvusClient]:
    with closing(MilvusClient(uri=services.settings.milvus.milvus_uri, timeout=30)) as client:
        yield client


def remover(services: Services) -> Remover:
    return Remover(services.documents, services.vectors, services.blobs, services.queue, services.progress)


async def vector_objects(shelf: Shelf, found: Document) -> set[str]:
    return {
        key
        for key in await shelf.services.blobs.list_keys(document_prefix(found.id))
        if key.endswith((".vec", ".bf16"))
    }


async def test_nothing_of_it_is_missing_extra_or_an_orphan(shelf: Shelf, milvus: MilvusClient) -> None:
    old = await shelf.document("d1")
    assert await vector_objects(shelf, old) == {old_vectors_key("d1", number) for number in range(1, PAGES + 1)}
    assert milvus.has_collection(old_index_name(shelf.collection))
    assert not milvus.has_collection(index_name(shelf.collection))
    await shelf.put("d3")  # by this release, into the same index
    for options in ({}, {"repair": True}):
        assert await shelf.mismatches(**options) == []
    assert await shelf.holdings("d3") == whole(PAGES)
    assert await shelf.holdings("d1") == (2 * PAGES + 1, *whole(PAGES)[1:])
    assert not milvus.has_collection(index_name(shelf.collection))


async def test_its_pages_are_found_beside_new_ones(shelf: Shelf) -> None:
    await shelf.put("d3")
    found = await search(shelf)
    assert {(id_, page) for id_, page, _ in found} == {
        *((id_, page) for id_ in ("d1", "d3") for page in range(1, PAGES + 1)),
        *(("d2", page) for page in range(1, OTHER_PAGES + 1)),
    }
    sample = await read_pages(shelf.services.documents, shelf.services.blobs, shelf.collection, 100)
    assert len(sample) == 2 * PAGES + OTHER_PAGES


async def test_vectors_that_are_lost_are_named_by_their_new_name_and_leftovers_are_removed(shelf: Shelf) -> None:
    blobs = shelf.services.blobs
    await blobs.delete([old_vectors_key("d1", 2)])
    await blobs.put(vectors_key("d2", 1), await blobs.get(old_vectors_key("d2", 1)), "application/octet-stream")
    missing = Mismatch("s3", MismatchKind.MISSING, "pages/000002.vec", 1, "d1", shelf.collection)
    extra = Mismatch("s3", MismatchKind.EXTRA, "pages/000001.bf16", 1, "d2", shelf.collection)
    assert set(await shelf.mismatches()) == {missing, extra}
    await shelf.mismatches(repair=True)
    assert await shelf.mismatches() == [missing]


async def test_an_attempt_that_it_began_is_finished_and_has_one_object_a_page(shelf: Shelf) -> None:
    documents = shelf.services.documents
    with old_release():
        begun = await shelf.put("d3", written=3)
    await documents.checkpoint(begun.id, begun.fence, 1)
    await documents.release(begun.id, begun.fence)
    claimed = await documents.claim(begun.id, "w", LEASE_MS)
    store = PageStore(documents, shelf.services.blobs, shelf.services.vectors)
    codes = store.code_writer(claimed, await store.prepare(claimed, WordEmbedder()), claimed.pages_done)
    await store.write(claimed, [page_of(number, claimed.page_key(number)) for number in range(2, PAGES + 1)], codes)
    await documents.finish(await store.completed(claimed, codes))
    kept = {old_vectors_key("d3", 1), *(vectors_key("d3", number) for number in range(2, PAGES + 1))}
    assert await vector_objects(shelf, claimed) == kept
    assert await shelf.mismatches() == []
    assert {page for id_, page, _ in await search(shelf) if id_ == "d3"} == set(range(1, PAGES + 1))
    await store.remove_blobs(claimed, 1)
    assert await vector_objects(shelf, claimed) == set()


async def test_it_is_deleted_without_a_rest(shelf: Shelf, milvus: MilvusClient) -> None:
    found = await shelf.document("d1")
    await remover(shelf.services).delete_document("d1")
    assert await shelf.services.blobs.list_keys(document_prefix("d1")) == []
    assert await shelf.services.vectors.count_rows(shelf.collection, found.first_page_key, found.pages) == 0
    assert await shelf.mismatches() == []
    await remover(shelf.services).delete_collection(shelf.collection)
    assert await shelf.services.blobs.list_keys(document_prefix("d2")) == []
    assert not any(milvus.has_collection(name) for name in IndexNames().all(shelf.collection))


async def test_it_comes_back_from_an_archive_under_the_new_name(shelf: Shelf, milvus: MilvusClient) -> None:
    before = await everything(shelf), await search(shelf)
    await archiver(shelf.services).archive(shelf.collection)
    assert not any(milvus.has_collection(name) for name in IndexNames().all(shelf.collection))
    assert await shelf.mismatches(repair=True) == []
    await archiver(shelf.services).restore(shelf.collection)
    assert milvus.has_collection(index_name(shelf.collection))
    assert not milvus.has_collection(old_index_name(shelf.collection))
    after = await everything(shelf), await search(shelf)
    assert after[1] == before[1]
    assert (after[0]["rows"], after[0]["objects"]) == (before[0]["rows"], before[0]["objects"])
    assert await shelf.mismatches() == []
