"""The three stores against each other: in order, damaged in every way that an audit knows, and in motion."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Final

import pytest

from ingestion.bootstrap import Services
from ingestion.model import (
    SEGMENT_PAGES,
    SIGN_CODE_FORMAT,
    Document,
    PageRecord,
    codes_key,
    codes_keys,
    converted_key,
    document_prefix,
    image_key,
    pages_prefix,
    source_key,
    terms_key,
    terms_keys,
    vectors_key,
)
from ingestion.removal import Remover
from ingestion.vectors.encoding import VectorEncoding
from tests.support.shelf import OTHER_PAGES, PAGES, PATCHES, Shelf, auditor, objects_of, open_shelf, page_of, whole
from workers.audit.mismatch import Mismatch, MismatchKind
from workers.code_backfill import CodeBackfill
from workers.term_backfill import TermBackfill


@pytest.fixture
async def shelf(services: Services, collection: str) -> AsyncIterator[Shelf]:
    async with open_shelf(services, collection) as shelf:
        yield shelf


async def lose_source(shelf: Shelf, found: Document) -> None:
    await shelf.services.blobs.delete([found.object_key])


async def lose_image(shelf: Shelf, found: Document) -> None:
    await shelf.services.blobs.delete([image_key(found.id, 2, "webp")])


async def lose_vectors(shelf: Shelf, found: Document) -> None:
    await shelf.services.blobs.delete([vectors_key(found.id, number) for number in (2, 4)])


async def lose_all_pages_objects(shelf: Shelf, found: Document) -> None:
    remade = codes_keys(found.id, found.pages) + terms_keys(found.id, found.pages)
    keys = await shelf.services.blobs.list_keys(document_prefix(found.id))
    await shelf.services.blobs.delete([key for key in keys if key not in remade])


async def lose_page_records(shelf: Shelf, found: Document) -> None:
    await shelf.services.documents.remove_pages(found.page_key(2), 2)


async def lose_rows(shelf: Shelf, found: Document) -> None:
    await shelf.services.vectors.delete_pages(shelf.collection, found.page_key(3), 1)


async def double_rows(shelf: Shelf, found: Document) -> None:
    await shelf.services.vectors.upsert(shelf.collection, [page_of(4, found.page_key(4), PATCHES + 2)])


LOSSES: Final = {
    lose_source: ("s3", MismatchKind.MISSING, "source.pdf", 1),
    lose_image: ("s3", MismatchKind.MISSING, "pages/000002.webp", 1),
    lose_vectors: ("s3", MismatchKind.MISSING, "pages/000002.vec", 2),
    lose_all_pages_objects: ("s3", MismatchKind.MISSING, "pages/000001.vec", 2 * PAGES + 1),
    lose_page_records: ("mongodb", MismatchKind.MISSING, "record of page 2", 2),
    lose_rows: ("milvus", MismatchKind.MISSING, "15 rows in place of 20", PATCHES),
    double_rows: ("milvus", MismatchKind.EXTRA, "22 rows in place of 20", 2),
}


async def test_an_audit_is_exact_where_documents_of_a_collection_differ_in_index_pooling(shelf: Shelf) -> None:
    for id_, factor, rows in (("d4", 4, 2), ("d8", 8, 1), ("d32", 32, 1)):
        found = await shelf.put(id_, encoding=VectorEncoding(index_pooling=factor))
        assert await shelf.services.vectors.count_rows(shelf.collection, found.first_page_key, PAGES) == PAGES * rows
    assert not await shelf.mismatches()

    await lose_rows(shelf, await shelf.document("d4"))
    await lose_rows(shelf, await shelf.document("d8"))
    lost = {(mismatch.document_id, mismatch.what) for mismatch in await shelf.mismatches()}
    assert lost == {("d4", "6 rows in place of 8"), ("d8", "3 rows in place of 4")}


async def test_an_audit_reports_each_loss_of_a_ready_document_once_and_changes_nothing(shelf: Shelf) -> None:
    expected = set()
    for lose, (store, kind, what, count) in LOSSES.items():
        await lose(shelf, await shelf.put(lose.__name__))
        expected.add(Mismatch(store, kind, what, count, lose.__name__, shelf.collection))
    before = [await shelf.holdings(lose.__name__) for lose in LOSSES]
    for options in ({}, {"repair": True}, {"collection": shelf.collection}):
        found = await shelf.mismatches(**options)
        assert set(found) == expected
        assert len(found) == len(LOSSES)
    assert [await shelf.holdings(lose.__name__) for lose in LOSSES] == before
    assert await shelf.holdings("d1") == whole(PAGES)
    assert await shelf.holdings("d2") == whole(OTHER_PAGES)


async def test_lost_sign_codes_are_missing_until_an_audit_lets_them_be_made_again(shelf: Shelf) -> None:
    found, pages = await shelf.put("long", 2 * SEGMENT_PAGES), 2 * SEGMENT_PAGES
    await shelf.services.blobs.delete([codes_key("long", SEGMENT_PAGES + 1), codes_key("d1", 1)])
    assert found.codes_format == SIGN_CODE_FORMAT
    lacking = [
        Mismatch("s3", MismatchKind.MISSING, "pages/000001.codes", 1, "d1", shelf.collection, is_remade=True),
        Mismatch("s3", MismatchKind.MISSING, "pages/000065.codes", 1, "long", shelf.collection, is_remade=True),
    ]
    assert await shelf.mismatches() == lacking
    assert await shelf.mismatches(repair=True) == [replace(one, is_repaired=True) for one in lacking]
    assert [(await shelf.document(id_)).codes_format for id_ in ("d1", "long", "d2")] == [0, 0, SIGN_CODE_FORMAT]
    assert await shelf.mismatches() == []
    assert (await CodeBackfill(shelf.services.documents, shelf.services.blobs).round()).made == 2
    assert await shelf.mismatches() == []
    assert await shelf.holdings("d1") == whole(PAGES)
    assert await shelf.holdings("long") == whole(pages)


async def test_lost_terms_are_missing_until_an_audit_lets_them_be_made_again(shelf: Shelf) -> None:
    kept = await shelf.services.blobs.get(terms_key("d1", 1))
    await shelf.services.blobs.delete([terms_key("d1", 1)])
    lacking = Mismatch("s3", MismatchKind.MISSING, "pages/000001.terms", 1, "d1", shelf.collection, is_remade=True)
    assert await shelf.mismatches() == [lacking]
    assert await shelf.mismatches(repair=True) == [replace(lacking, is_repaired=True)]
    assert await shelf.mismatches() == []
    assert (await TermBackfill(shelf.services.documents, shelf.services.blobs).round()).made == 1
    assert await shelf.mismatches() == []
    assert await shelf.services.blobs.get(terms_key("d1", 1)) == kept


async def test_sign_codes_of_a_ready_document_are_needed_only_if_its_record_says_so(shelf: Shelf) -> None:
    await shelf.records["documents"].update_one({"_id": "d1"}, {"$unset": {"codes_format": ""}})
    await shelf.records["documents"].update_one({"_id": "d2"}, {"$set": {"codes_format": SIGN_CODE_FORMAT + 1}})
    assert await shelf.mismatches(repair=True) == []
    assert await shelf.holdings("d1") == whole(PAGES)
    await shelf.services.blobs.delete([codes_key("d1", 1), codes_key("d2", 1)])
    assert await shelf.mismatches(repair=True) == []


async def add_objects(shelf: Shelf) -> Mismatch:
    await shelf.services.blobs.put(image_key("d1", 1, "png"), b"other picture", "image/png")
    await shelf.services.blobs.put(codes_key("d1", 2), b"of no segment", "text/plain")
    # A key that others, which are needed, begin with.
    await shelf.services.blobs.put(f"{pages_prefix('d1')}000001", b"", "text/plain")
    return Mismatch("s3", MismatchKind.EXTRA, "pages/000001", 3, "d1", shelf.collection)


async def add_unrecorded_objects(shelf: Shelf) -> Mismatch:
    await shelf.services.blobs.put(source_key("d0"), b"%PDF-", "application/pdf")
    await shelf.services.blobs.put(vectors_key("d0", 1), b"", "text/plain")
    return Mismatch("s3", MismatchKind.ORPHAN, "pages/000001.vec", 2, "d0")


async def add_page_records_of_nobody(shelf: Shelf) -> Mismatch:
    first = await shelf.services.documents.reserve_page_keys(3)
    await shelf.services.documents.put_pages([record(first + n, "gone", n + 1) for n in (0, 2)])
    return Mismatch("mongodb", MismatchKind.ORPHAN, "record of page 1", 2, "gone")


async def add_page_record_outside_its_document(shelf: Shelf) -> Mismatch:
    first = await shelf.services.documents.reserve_page_keys(1)
    await shelf.services.documents.put_pages([record(first, "d2", 7)])
    return Mismatch("mongodb", MismatchKind.ORPHAN, "record of page 7", 1, "d2")


async def add_rows_between(shelf: Shelf) -> Mismatch:
    """In a gap of thousands of page keys, between documents."""
    first = await shelf.services.documents.reserve_page_keys(5000)
    await shelf.put("d3")
    await shelf.services.vectors.upsert(shelf.collection, [page_of(1, first + n) for n in (1700, 4999)])
    low, high = (await shelf.document("d2")).page_keys.stop, first + 4999
    what = f"rows of page keys {low} to {high}"
    return Mismatch("milvus", MismatchKind.ORPHAN, what, 2 * PATCHES, collection=shelf.collection)


async def add_rows_behind(shelf: Shelf) -> Mismatch:
    first = await shelf.services.documents.reserve_page_keys(2)
    await shelf.services.vectors.upsert(shelf.collection, [page_of(1, first)])
    what = f"rows of page keys {first} to {first + 1}"
    return Mismatch("milvus", MismatchKind.ORPHAN, what, PATCHES, collection=shelf.collection)


async def test_an_audit_reports_each_orphan_once_and_deletes_only_orphans(shelf: Shelf) -> None:
    expected = {
        await add_objects(shelf),
        await add_unrecorded_objects(shelf),
        await add_page_records_of_nobody(shelf),
        await add_page_record_outside_its_document(shelf),
        await add_rows_between(shelf),
        await add_rows_behind(shelf),
    }
    found = await shelf.mismatches()
    assert set(found) == expected
    assert len(found) == len(expected)
    assert set(await shelf.mismatches(repair=True)) == {replace(mismatch, is_repaired=True) for mismatch in expected}
    assert await shelf.mismatches() == []
    for id_, pages in (("d1", PAGES), ("d2", OTHER_PAGES), ("d3", PAGES)):
        assert await shelf.holdings(id_) == whole(pages)


def record(page_key: int, id_: str, number: int) -> PageRecord:
    return PageRecord(page_key, id_, number, 10, 10, PATCHES, image_key(id_, number, "webp"), "text")


async def test_stores_in_order_have_no_findings(shelf: Shelf) -> None:
    assert await shelf.mismatches() == []
    assert await shelf.mismatches(collection=shelf.collection) == []
    assert await shelf.mismatches(repair=True) == []
    assert await shelf.holdings("d1") == whole(PAGES)


async def test_stores_that_were_never_prepared_have_no_findings(services: Services) -> None:
    assert [mismatch async for mismatch in auditor(services).mismatches()] == []


async def test_a_lost_record_leaves_orphans_in_every_store(shelf: Shelf) -> None:
    lost = await shelf.document("d1")
    await shelf.forget(lost)
    what = f"rows of page keys 0 to {lost.page_keys.stop - 1}"
    found = await shelf.mismatches(repair=True)
    assert found == [
        Mismatch("s3", MismatchKind.ORPHAN, "pages/000001.codes", objects_of(PAGES), "d1", is_repaired=True),
        Mismatch("mongodb", MismatchKind.ORPHAN, "record of page 1", PAGES, "d1", is_repaired=True),
        Mismatch("milvus", MismatchKind.ORPHAN, what, PAGES * PATCHES, "", shelf.collection, is_repaired=True),
    ]
    assert await shelf.mismatches() == []
    assert await shelf.holdings("d2") == whole(OTHER_PAGES)


async def test_rows_of_a_collection_that_is_gone_are_missing(shelf: Shelf) -> None:
    """As when a document gets ready while its collection is being deleted."""
    await shelf.services.vectors.drop(shelf.collection)
    await shelf.records["collections"].delete_one({"_id": shelf.collection})
    assert [(found.document_id, found.what) for found in await shelf.mismatches()] == [
        ("d1", "0 rows in place of 20"),
        ("d2", "0 rows in place of 15"),
    ]


async def test_an_object_may_be_without_a_record_for_as_long_as_an_upload_takes(shelf: Shelf) -> None:
    await add_unrecorded_objects(shelf)
    patient = auditor(shelf.services, orphan_grace_s=3600)
    assert [mismatch async for mismatch in patient.mismatches(repair=True)] == []
    assert len(await shelf.services.blobs.list_keys(document_prefix("d0"))) == 2


async def test_objects_that_are_in_no_documents_folder_are_not_ours(shelf: Shelf) -> None:
    for key in ("documents/stray.pdf", "elsewhere/d9/source.pdf"):
        await shelf.services.blobs.put(key, b"", "text/plain")
    assert await shelf.mismatches(repair=True) == []
    assert await shelf.services.blobs.list_keys("documents/stray.pdf") == ["documents/stray.pdf"]


@pytest.mark.parametrize("written", [0, 2])
async def test_a_document_that_is_being_processed_may_be_incomplete(shelf: Shelf, written: int) -> None:
    await shelf.put("d3", written=written)
    assert await shelf.mismatches(repair=True) == []


async def test_findings_are_reported_per_collection(shelf: Shelf) -> None:
    await lose_image(shelf, await shelf.document("d1"))
    await add_unrecorded_objects(shelf)
    assert await shelf.mismatches(collection="another") == []
    assert [found.document_id for found in await shelf.mismatches(collection=shelf.collection)] == ["d1"]


async def test_small_batches_find_the_same(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.audit.contents._DOCUMENTS_AT_ONCE", 1)
    monkeypatch.setattr("workers.audit.contents._PAGES_AT_ONCE", 2)
    monkeypatch.setattr("workers.audit.orphans._PAGES_AT_ONCE", 2)
    monkeypatch.setattr("workers.audit.rows._DOCUMENTS_AT_ONCE", 1)
    monkeypatch.setattr("workers.audit.auditor._SUSPECTS_AT_ONCE", 1)
    monkeypatch.setattr("ingestion.adapters.minio._LISTED", 2)
    await shelf.put("d3", 7)
    assert await shelf.mismatches() == []
    await lose_image(shelf, await shelf.document("d1"))
    await lose_rows(shelf, await shelf.document("d1"))
    assert [(found.store, found.document_id) for found in await shelf.mismatches()] == [("s3", "d1"), ("milvus", "d1")]


async def test_an_audit_during_uploads_and_deletes_reports_no_mismatch(shelf: Shelf) -> None:
    stores = shelf.services
    remover = Remover(stores.documents, stores.vectors, stores.blobs, stores.queue, stores.progress)
    finished = asyncio.Event()

    async def come_and_go(lane: int) -> int:
        rounds = 0
        while not finished.is_set():
            gone = await shelf.put(f"lane-{lane}", pages=2)
            await remover.delete_document(gone.id)
            rounds += 1
        return rounds

    lanes = [asyncio.create_task(come_and_go(lane)) for lane in range(2)]
    try:
        patient = auditor(stores, orphan_grace_s=3600, settle_s=1.0)
        for _ in range(3):
            assert [mismatch async for mismatch in patient.mismatches(repair=True)] == []
    finally:
        finished.set()
        rounds = await asyncio.gather(*lanes)
    assert min(rounds) > 0
    assert await shelf.mismatches() == []
    assert await shelf.holdings("d1") == whole(PAGES)


async def test_the_pdf_of_a_converted_file_is_expected_and_not_extra(shelf: Shelf) -> None:
    found = await shelf.put("d7")
    await shelf.services.blobs.put(converted_key(found.id), b"%PDF-", "application/pdf")
    [extra] = [one for one in await shelf.mismatches() if one.document_id == found.id]
    assert (extra.kind, extra.what) == (MismatchKind.EXTRA, "converted.pdf")
    await shelf.records["documents"].update_one({"_id": found.id}, {"$set": {"media_type": "image/png"}})
    assert [one for one in await shelf.mismatches() if one.document_id == found.id] == []
    await shelf.services.blobs.delete([converted_key(found.id)])
    [missing] = [one for one in await shelf.mismatches() if one.document_id == found.id]
    assert (missing.kind, missing.what) == (MismatchKind.MISSING, "converted.pdf")
