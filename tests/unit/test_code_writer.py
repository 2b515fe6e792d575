"""The sign codes that a worker writes beside the pages of a document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ingestion.errors import WorkerFault
from ingestion.model import (
    SEGMENT_PAGES,
    SIGN_CODE_FORMAT,
    Document,
    Page,
    PageVectors,
    codes_key,
    codes_keys,
    document_prefix,
    old_vectors_key,
    vectors_key,
)
from ingestion.vectors.sign_codes import CodeSegment, segment_pages
from tests.memory import MemoryBlobStore
from tests.support.memory_worker import Cut, MemoryWorker, job
from workers.attempt.code_writer import CodeWriter
from workers.attempt.store import PageStore

PAGES = 2 * SEGMENT_PAGES + 7
DIM = 300
LAST = 2 * SEGMENT_PAGES + 1
"""The first page of the last, short segment."""


@pytest.fixture
def worker() -> MemoryWorker:
    return MemoryWorker()


def page(document: Document, number: int) -> PageVectors:
    """Every fifth page has no vectors."""
    random = np.random.default_rng(number)
    vectors = random.standard_normal((0 if number % 5 == 0 else 1 + number % 3, DIM)).astype(np.float32)
    return PageVectors(Page(number, 10, 10, b"picture", "text"), document.page_key(number), vectors)


def pages(document: Document, numbers: Sequence[int]) -> list[PageVectors]:
    return [page(document, number) for number in numbers]


async def claimed(worker: MemoryWorker, count: int = PAGES) -> tuple[PageStore, Document]:
    store = PageStore(worker.documents, worker.blobs, worker.vectors)
    document = await worker.documents.claim((await worker.uploaded(pages=count)).id, "w", 1000)
    await worker.documents.bind_collection(document.collection, "scripted", DIM)
    await worker.vectors.ensure(document.collection, DIM)
    return store, document


def stored_codes(blobs: MemoryBlobStore) -> set[str]:
    return {key for key in blobs.objects if key.endswith(".codes")}


async def assert_codes_are_those_of_the_blobs(blobs: MemoryBlobStore, document: Document, generation: int = 1) -> None:
    for first in range(1, document.pages + 1, SEGMENT_PAGES):
        numbers = segment_pages(first, document.pages)
        kept = [await blobs.get(vectors_key(document.id, number, generation)) for number in numbers]
        assert await blobs.get(codes_key(document.id, first, generation)) == CodeSegment.of(kept).encode()


async def write(
    store: PageStore, document: Document, codes: CodeWriter, numbers: Sequence[int], window: int = 16
) -> None:
    for start in range(0, len(numbers), window):
        await store.write(document, pages(document, numbers[start : start + window]), codes)


async def test_a_segment_is_stored_once_its_pages_are(worker: MemoryWorker) -> None:
    store, document = await claimed(worker)
    codes = store.code_writer(document, 1, 0)
    await write(store, document, codes, range(1, SEGMENT_PAGES))
    assert stored_codes(worker.blobs) == set()
    await write(store, document, codes, [SEGMENT_PAGES])
    assert stored_codes(worker.blobs) == {codes_key("d1", 1)}
    assert await codes.complete() == 0
    await write(store, document, codes, range(SEGMENT_PAGES + 1, PAGES + 1))
    assert stored_codes(worker.blobs) == set(codes_keys("d1", PAGES))
    assert await codes.complete() == SIGN_CODE_FORMAT
    await assert_codes_are_those_of_the_blobs(worker.blobs, document)


async def test_windows_may_come_in_any_order_and_again(worker: MemoryWorker) -> None:
    store, document = await claimed(worker)
    codes = store.code_writer(document, 1, 0)
    numbers = np.random.default_rng(1).permutation(np.arange(1, PAGES + 1)).tolist()
    await write(store, document, codes, numbers, window=5)
    assert await codes.complete() == SIGN_CODE_FORMAT
    again = replace(page(document, 70), vectors=np.ones((9, DIM), np.float32))
    await store.write(document, [again], codes)
    assert await codes.complete() == SIGN_CODE_FORMAT
    await assert_codes_are_those_of_the_blobs(worker.blobs, document)


async def test_it_keeps_no_more_codes_than_those_of_segments_in_flight(worker: MemoryWorker) -> None:
    store, document = await claimed(worker)
    codes = store.code_writer(document, 1, 0)
    for number in range(1, PAGES + 1):
        await write(store, document, codes, [number])
        assert sum(map(len, codes._kept.values())) < SEGMENT_PAGES
    assert not codes._kept


@pytest.mark.parametrize("done", [1, 40, SEGMENT_PAGES, SEGMENT_PAGES + 1, 2 * SEGMENT_PAGES + 3, PAGES])
@pytest.mark.parametrize("is_of_an_earlier_release", [False, True])
async def test_an_attempt_that_resumes_makes_the_codes_of_earlier_pages_from_their_blobs(
    worker: MemoryWorker, done: int, is_of_an_earlier_release: bool
) -> None:
    store, document = await claimed(worker)
    await store.write(document, pages(document, range(1, done + 1)), store.code_writer(document, 1, 0))
    if is_of_an_earlier_release:
        await worker.blobs.delete(codes_keys(document.id, PAGES))
    codes = store.code_writer(document, 1, done)
    await write(store, document, codes, range(done + 1, PAGES + 1))
    assert await codes.complete() == SIGN_CODE_FORMAT
    await assert_codes_are_those_of_the_blobs(worker.blobs, document)


async def test_earlier_pages_may_have_blobs_of_the_old_name(worker: MemoryWorker) -> None:
    store, document = await claimed(worker, 3)
    await store.write(document, pages(document, [1, 2]), store.code_writer(document, 1, 0))
    expected = CodeSegment.of([store._encoding.blob(page(document, number).vectors) for number in (1, 2, 3)]).encode()
    content, _ = worker.blobs.objects.pop(vectors_key("d1", 1))
    await worker.blobs.put(old_vectors_key("d1", 1), content, "")
    codes = store.code_writer(document, 1, 2)
    await write(store, document, codes, [3])
    assert await codes.complete() == SIGN_CODE_FORMAT
    assert await worker.blobs.get(codes_key("d1", 1)) == expected


@pytest.mark.parametrize("content", [None, b"odd"])
async def test_an_earlier_page_without_readable_vectors_leaves_the_document_without_codes(
    worker: MemoryWorker, content: bytes | None
) -> None:
    store, document = await claimed(worker, 3)
    await store.write(document, pages(document, [1, 2]), store.code_writer(document, 1, 0))
    await worker.blobs.delete([vectors_key("d1", 2)])
    if content is not None:
        await worker.blobs.put(vectors_key("d1", 2), content, "")
    codes = store.code_writer(document, 1, 2)
    await write(store, document, codes, [3])
    assert await codes.complete() == 0
    assert stored_codes(worker.blobs) == set()


async def test_a_segment_that_could_not_be_stored_is_not_counted_as_stored(
    worker: MemoryWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingestion.retrying.ATTEMPTS", 1)
    store, document = await claimed(worker, 3)
    down: Any = Cut(worker.blobs, "put", WorkerFault("s3: refused"))
    codes = CodeWriter(down, document, 1, 0, lambda: None)
    with pytest.raises(WorkerFault):
        await store.write(document, pages(document, [1, 2, 3]), codes)
    assert await codes.complete() == 0


async def test_codes_of_another_generation_have_names_of_their_own(worker: MemoryWorker) -> None:
    store, document = await claimed(worker)
    await worker.vectors.ensure("manuals@g2", DIM)
    codes = store.code_writer(document, 2, 0)
    await store.write_vectors(document, 2, pages(document, range(1, PAGES + 1)), codes)
    assert stored_codes(worker.blobs) == set(codes_keys("d1", PAGES, 2))
    await assert_codes_are_those_of_the_blobs(worker.blobs, document, 2)
    await store.remove_blobs(document, 2)
    assert worker.blobs.objects.keys() == {document.object_key}


async def test_an_attempt_that_is_begun_anew_deletes_codes_of_pages_that_it_writes_again(worker: MemoryWorker) -> None:
    store, document = await claimed(worker)
    await store.write(document, pages(document, range(1, LAST)), store.code_writer(document, 1, 0))
    await worker.documents.checkpoint(document.id, document.fence, 100)
    await worker.documents.release(document.id, document.fence)
    again = await worker.documents.claim(document.id, "w", 1000)
    await store.prepare(again, replace(worker.embedder, dim=DIM))
    assert stored_codes(worker.blobs) == {codes_key("d1", 1)}


async def test_a_ready_document_has_its_codes(worker: MemoryWorker) -> None:
    document = await worker.uploaded(pages=SEGMENT_PAGES + 3)
    await worker.pipeline.run(job(document))
    ready = await worker.read(document)
    assert ready.codes_format == SIGN_CODE_FORMAT
    assert stored_codes(worker.blobs) == set(codes_keys("d1", SEGMENT_PAGES + 3))
    await assert_codes_are_those_of_the_blobs(worker.blobs, ready)


async def test_codes_that_are_written_after_a_delete_are_deleted(worker: MemoryWorker) -> None:
    document = await worker.uploaded(pages=SEGMENT_PAGES + 3)
    put, has_deleted = worker.blobs.put, False

    async def put_late(key: str, data: bytes, content_type: str) -> None:
        nonlocal has_deleted
        if key == codes_key("d1", SEGMENT_PAGES + 1):
            deleting = await worker.documents.begin_delete("d1")
            await worker.blobs.delete_prefix(document_prefix("d1"))
            await worker.documents.remove(deleting)
            has_deleted = True
        await put(key, data, content_type)

    worker.blobs.put = put_late  # type: ignore[method-assign]
    await worker.pipeline.run(job(document))
    assert has_deleted
    assert worker.blobs.objects == {}
