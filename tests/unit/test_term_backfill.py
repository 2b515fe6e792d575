"""The terms that workers and the janitor write, on in-memory stores."""

from __future__ import annotations

from typing import Any

import pytest

from ingestion.errors import DependencyUnavailable
from ingestion.model import SEGMENT_PAGES, TERM_FORMAT, Document, document_prefix, terms_key, terms_keys
from ingestion.terms.segment import TermSegment
from tests.support.memory_worker import COLLECTION, ActingBlobs, Cut, MemoryWorker, job
from workers.term_backfill import TermBackfill


@pytest.fixture
def worker() -> MemoryWorker:
    return MemoryWorker()


async def old_document(worker: MemoryWorker, id_: str = "d1", pages: int = 3) -> tuple[Document, dict[str, bytes]]:
    """A ready document as an earlier release stored it, and the terms that it should get."""
    uploaded = await worker.uploaded(id_, pages)
    await worker.pipeline.run(job(uploaded))
    assert await worker.documents.set_terms_format(await worker.read(uploaded), 0)
    terms = {key: worker.blobs.objects[key][0] for key in terms_keys(id_, pages)}
    await worker.blobs.delete(list(terms))
    return await worker.read(uploaded), terms


def stored_terms(worker: MemoryWorker) -> dict[str, bytes]:
    return {key: content for key, (content, _) in worker.blobs.objects.items() if key.endswith(".terms")}


def backfill(worker: MemoryWorker, blobs: Any = None, **options: Any) -> TermBackfill:
    return TermBackfill(worker.documents, blobs or worker.blobs, **options)


async def test_a_worker_writes_the_terms_of_all_pages_before_the_document_is_ready(worker: MemoryWorker) -> None:
    document = await worker.uploaded("d1", SEGMENT_PAGES + 2)
    await worker.pipeline.run(job(document))
    assert (await worker.read(document)).terms_format == TERM_FORMAT
    segments = [TermSegment.decode(content) for _, content in sorted(stored_terms(worker).items())]
    assert [segment.pages for segment in segments] == [SEGMENT_PAGES, 2]
    assert [segment.lengths.tolist() for segment in segments] == [[2] * SEGMENT_PAGES, [2, 2]]


async def test_documents_of_an_earlier_release_get_the_terms_that_a_worker_writes(worker: MemoryWorker) -> None:
    documents = [await old_document(worker, id_, pages) for id_, pages in (("d1", 3), ("d2", SEGMENT_PAGES + 1))]
    done = await backfill(worker).round()
    assert (done.made, done.failed, done.left) == (2, {}, 0)
    assert stored_terms(worker) == {key: content for _, terms in documents for key, content in terms.items()}
    for document, _ in documents:
        assert (await worker.read(document)).terms_format == TERM_FORMAT
    assert (await backfill(worker).round()).made == 0


async def test_a_round_makes_the_terms_of_few_pages_and_of_one_collection(worker: MemoryWorker) -> None:
    for number in range(3):
        await old_document(worker, f"d{number}", pages=2)
    rounds = backfill(worker, pages_a_round=3)
    assert (await rounds.round("other")).made == 0
    assert [((done := await rounds.round(COLLECTION)).made, done.left) for _ in range(2)] == [(2, 1), (1, 0)]


async def test_a_document_that_lacks_a_page_record_hides_no_other(worker: MemoryWorker) -> None:
    bad, _ = await old_document(worker, "a")
    good, _ = await old_document(worker, "b")
    await worker.documents.remove_pages(bad.page_key(2), 1)
    done = await backfill(worker).round()
    assert (done.made, list(done.failed)) == (1, ["a"])
    assert "page 2 of document a has no record" in done.failed["a"]
    assert (await worker.read(good)).terms_format == TERM_FORMAT
    assert stored_terms(worker).keys() == {terms_key("b", 1)}


async def test_an_outage_ends_the_round(worker: MemoryWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingestion.retrying.ATTEMPTS", 1)
    document, _ = await old_document(worker)
    with pytest.raises(DependencyUnavailable):
        await backfill(worker, Cut(worker.blobs, "put", DependencyUnavailable("s3", "down"))).round()
    assert (await worker.read(document)).terms_format == 0


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("is_half_deleted", [True, False], ids=["half deleted", "gone"])
async def test_terms_of_a_document_that_is_deleted_meanwhile_are_deleted(
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
async def test_a_document_that_is_uploaded_anew_meanwhile_keeps_its_terms(worker: MemoryWorker, before: bool) -> None:
    document, terms = await old_document(worker)

    async def renew() -> None:
        await worker.documents.remove(await worker.documents.begin_delete(document.id))
        await worker.blobs.delete_prefix(document_prefix(document.id))
        await worker.pipeline.run(job(await worker.uploaded(document.id, document.pages)))

    assert (await backfill(worker, ActingBlobs(worker.blobs, renew, before=before)).round()).made == 0
    assert (await worker.read(document)).terms_format == TERM_FORMAT
    assert stored_terms(worker) == terms
