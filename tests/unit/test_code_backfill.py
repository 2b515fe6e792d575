"""The sign codes that the janitor makes for documents of earlier releases, on in-memory stores."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ingestion.errors import DependencyUnavailable
from ingestion.model import (
    SEGMENT_PAGES,
    SIGN_CODE_FORMAT,
    Document,
    codes_key,
    codes_keys,
    document_prefix,
    vectors_key,
)
from tests.support.memory_worker import COLLECTION, ActingBlobs, Cut, MemoryWorker, job
from workers.code_backfill import CodeBackfill


@pytest.fixture
def worker() -> MemoryWorker:
    return MemoryWorker()


async def old_document(worker: MemoryWorker, id_: str = "d1", pages: int = 3) -> tuple[Document, dict[str, bytes]]:
    """A ready document as an earlier release stored it, and the sign codes that it should get."""
    uploaded = await worker.uploaded(id_, pages)
    await worker.pipeline.run(job(uploaded))
    assert await worker.documents.set_codes_format(await worker.read(uploaded), 0)
    codes = {key: worker.blobs.objects[key][0] for key in codes_keys(id_, pages)}
    await worker.blobs.delete(list(codes))
    return await worker.read(uploaded), codes


def stored_codes(worker: MemoryWorker) -> dict[str, bytes]:
    return {key: content for key, (content, _) in worker.blobs.objects.items() if key.endswith(".codes")}


def backfill(worker: MemoryWorker, blobs: Any = None, **options: Any) -> CodeBackfill:
    return CodeBackfill(worker.documents, blobs or worker.blobs, **options)


async def test_documents_of_an_earlier_release_get_the_codes_that_a_worker_writes(worker: MemoryWorker) -> None:
    documents = [await old_document(worker, id_, pages) for id_, pages in (("d1", 3), ("d2", SEGMENT_PAGES + 1))]
    done = await backfill(worker).round()
    assert (done.made, done.failed, done.left) == (2, {}, 0)
    assert stored_codes(worker) == {key: content for _, codes in documents for key, content in codes.items()}
    for document, _ in documents:
        assert (await worker.read(document)).codes_format == SIGN_CODE_FORMAT
    again = await backfill(worker).round()
    assert (again.made, again.failed, again.left) == (0, {}, 0)


async def test_a_round_makes_the_codes_of_few_pages_and_the_next_ones_the_rest(worker: MemoryWorker) -> None:
    for number in range(5):
        await old_document(worker, f"d{number}", pages=2)
    rounds = backfill(worker, pages_a_round=3)
    assert [((done := await rounds.round()).made, done.left) for _ in range(4)] == [(2, 3), (2, 1), (1, 0), (0, 0)]


async def test_a_round_of_one_collection_leaves_the_others_alone(worker: MemoryWorker) -> None:
    await old_document(worker)
    done = await backfill(worker).round("other")
    assert (done.made, done.left) == (0, 0)
    assert (await backfill(worker).round(COLLECTION)).made == 1


@pytest.mark.parametrize("content", [None, b"odd"])
async def test_a_document_without_readable_vectors_hides_no_other(worker: MemoryWorker, content: bytes | None) -> None:
    bad = [(await old_document(worker, f"a{number}", pages=2))[0] for number in range(3)]
    good, _ = await old_document(worker, "b", pages=2)
    for document in bad:
        await worker.blobs.delete([vectors_key(document.id, 2)])
        if content is not None:
            await worker.blobs.put(vectors_key(document.id, 2), content, "")
    rounds = backfill(worker, pages_a_round=2)
    done = [await rounds.round() for _ in range(4)]
    assert [[*one.failed] for one in done] == [["a0"], ["a1"], ["a2"], []]
    assert (await worker.read(good)).codes_format == SIGN_CODE_FORMAT
    assert [(await worker.read(document)).codes_format for document in bad] == [0, 0, 0]
    assert stored_codes(worker).keys() == {codes_key("b", 1)}


async def test_an_outage_ends_the_round(worker: MemoryWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingestion.retrying.ATTEMPTS", 1)
    document, _ = await old_document(worker)
    down = Cut(worker.blobs, "put", DependencyUnavailable("s3", "down"))
    with pytest.raises(DependencyUnavailable):
        await backfill(worker, down).round()
    assert (await worker.read(document)).codes_format == 0


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("is_half_deleted", [True, False], ids=["half deleted", "gone"])
async def test_codes_of_a_document_that_is_deleted_meanwhile_are_deleted(
    worker: MemoryWorker, before: bool, is_half_deleted: bool
) -> None:
    document, _ = await old_document(worker, pages=2 * SEGMENT_PAGES)

    async def delete() -> None:
        deleting = await worker.documents.begin_delete(document.id)
        await worker.blobs.delete_prefix(document_prefix(document.id))
        if not is_half_deleted:
            await worker.documents.remove(deleting)

    done = await backfill(worker, ActingBlobs(worker.blobs, delete, before=before)).round()
    assert (done.made, done.failed) == (0, {})
    assert worker.blobs.objects == {}


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
async def test_a_document_that_is_uploaded_anew_meanwhile_gets_its_codes_again(
    worker: MemoryWorker, before: bool
) -> None:
    document, codes = await old_document(worker)

    async def renew() -> None:
        await worker.documents.remove(await worker.documents.begin_delete(document.id))
        await worker.blobs.delete_prefix(document_prefix(document.id))
        await worker.pipeline.run(job(await worker.uploaded(document.id, document.pages)))

    assert (await backfill(worker, ActingBlobs(worker.blobs, renew, before=before)).round()).made == 0
    assert (await worker.read(document)).codes_format == 0
    assert stored_codes(worker) == {}
    assert (await backfill(worker).round()).made == 1
    assert stored_codes(worker) == codes


async def test_codes_of_a_document_that_is_archived_meanwhile_stay(worker: MemoryWorker) -> None:
    document, codes = await old_document(worker)

    async def archive() -> None:
        worker.documents.state.archived[document.id] = (COLLECTION, "archive")
        del worker.documents.state.documents[document.id]

    assert (await backfill(worker, ActingBlobs(worker.blobs, archive, before=True)).round()).made == 0
    assert stored_codes(worker) == codes


async def test_a_document_in_two_generations_gets_the_codes_of_both(worker: MemoryWorker) -> None:
    document, codes = await old_document(worker)
    await worker.documents.begin_generation(COLLECTION, "new", 4)
    for number in range(1, document.pages + 1):
        await worker.blobs.put(
            vectors_key("d1", number, 2), await worker.blobs.get(vectors_key("d1", number)), "application/octet-stream"
        )
    moved = replace(document, next_generation=2, next_pages_done=document.pages)
    worker.documents.state.documents["d1"].document = moved
    assert (await backfill(worker).round()).made == 1
    assert stored_codes(worker) == codes | {codes_key("d1", 1, 2): codes[codes_key("d1", 1)]}


async def test_codes_of_a_generation_that_is_removed_meanwhile_are_deleted(worker: MemoryWorker) -> None:
    document, _ = await old_document(worker)

    async def settle() -> None:
        worker.documents.state.documents["d1"].document = replace(document, generation=2)

    assert (await backfill(worker, ActingBlobs(worker.blobs, settle, before=True)).round()).made == 0
    assert stored_codes(worker) == {}


async def test_two_backfills_side_by_side_do_no_harm(worker: MemoryWorker) -> None:
    document, codes = await old_document(worker)

    async def other() -> None:
        assert (await backfill(worker).round()).made == 1

    assert (await backfill(worker, ActingBlobs(worker.blobs, other, before=True)).round()).made == 0
    assert (await worker.read(document)).codes_format == SIGN_CODE_FORMAT
    assert stored_codes(worker) == codes
