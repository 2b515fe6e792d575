"""The three stores against each other: in order, damaged in every way that an audit knows, and in motion."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from typer.testing import CliRunner, Result

from ingestion.bootstrap import Services
from ingestion.model import (
    Document,
    DocumentState,
    Page,
    PageRecord,
    PageVectors,
    document_prefix,
    image_key,
    pages_prefix,
    source_key,
    vectors_key,
)
from ingestion.removal import Remover
from tests.documents import LEASE_MS, document
from tests.embedders import WordEmbedder
from workers.audit.auditor import Auditor
from workers.audit.finding import Finding, Kind
from workers.cli import app
from workers.store import PageStore

PAGES: Final = 4
PATCHES: Final = 5
OTHER_PAGES: Final = 3


@dataclass(frozen=True)
class Shelf:
    """Stores with documents in them, and ways to damage those behind the back of everybody."""

    services: Services
    collection: str
    records: Any
    """The database, for damage that no port can do."""

    async def put(self, id_: str, pages: int = PAGES, *, written: int | None = None) -> Document:
        """A document that is ready, or where less is `written` than it has `pages`, still being processed."""
        store = PageStore(self.services.documents, self.services.blobs, self.services.vectors, "webp")
        first = await self.services.documents.reserve_page_keys(pages)
        fresh = replace(document(id_, self.collection), object_key=source_key(id_), pages=pages, first_page_key=first)
        await self.services.blobs.put(source_key(id_), b"%PDF-", "application/pdf")
        await self.services.documents.insert(fresh)
        await self.services.documents.mark_queued(id_)
        claimed = await self.services.documents.claim(id_, "w", LEASE_MS)
        await store.prepare(claimed, WordEmbedder())
        numbers = range(1, (pages if written is None else written) + 1)
        await store.write(claimed, [page_of(number, claimed.page_key(number)) for number in numbers])
        return claimed if written is not None else await self.services.documents.finish(id_, claimed.fence)

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

    async def findings(self, **options: Any) -> list[Finding]:
        return [finding async for finding in auditor(self.services).findings(**options)]

    async def forget(self, found: Document) -> None:
        """Lose the document's record, and nothing else."""
        await self.records["documents"].delete_one({"_id": found.id})


def auditor(services: Services, *, orphan_grace_s: float = 0.0, settle_s: float = 0.0) -> Auditor:
    return Auditor(services.documents, services.blobs, services.vectors, orphan_grace_s, settle_s)


def page_of(number: int, page_key: int, patches: int = PATCHES) -> PageVectors:
    vectors = np.eye(32, dtype=np.float32)[:patches]
    return PageVectors(Page(number, 10, 10, b"picture", "text"), page_key, vectors)


@pytest.fixture
async def shelf(services: Services, collection: str) -> AsyncIterator[Shelf]:
    """With two ready documents, `d1` and `d2`."""
    mongo = services.settings.mongo
    client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(mongo.mongo_uri)
    shelf = Shelf(services, collection, client[mongo.mongo_database])
    await shelf.put("d1")
    await shelf.put("d2", OTHER_PAGES)
    yield shelf
    await services.vectors.drop(collection)
    await client.drop_database(mongo.mongo_database)
    client.close()


def whole(pages: int) -> tuple[int, int, int]:
    return 2 * pages + 1, pages, pages * PATCHES


async def lose_source(shelf: Shelf, found: Document) -> None:
    await shelf.services.blobs.delete([found.object_key])


async def lose_image(shelf: Shelf, found: Document) -> None:
    await shelf.services.blobs.delete([image_key(found.id, 2, "webp")])


async def lose_vectors(shelf: Shelf, found: Document) -> None:
    await shelf.services.blobs.delete([vectors_key(found.id, number) for number in (2, 4)])


async def lose_all_objects(shelf: Shelf, found: Document) -> None:
    await shelf.services.blobs.delete_prefix(document_prefix(found.id))


async def lose_page_records(shelf: Shelf, found: Document) -> None:
    await shelf.services.documents.remove_pages(found.page_key(2), 2)


async def lose_rows(shelf: Shelf, found: Document) -> None:
    await shelf.services.vectors.delete_pages(shelf.collection, found.page_key(3), 1)


async def double_rows(shelf: Shelf, found: Document) -> None:
    await shelf.services.vectors.upsert(shelf.collection, [page_of(4, found.page_key(4), PATCHES + 2)])


LOSSES: Final = {
    lose_source: ("s3", Kind.MISSING, "source.pdf", 1),
    lose_image: ("s3", Kind.MISSING, "pages/000002.webp", 1),
    lose_vectors: ("s3", Kind.MISSING, "pages/000002.bf16", 2),
    lose_all_objects: ("s3", Kind.MISSING, "pages/000001.bf16", 2 * PAGES + 1),
    lose_page_records: ("mongodb", Kind.MISSING, "record of page 2", 2),
    lose_rows: ("milvus", Kind.MISSING, "15 rows in place of 20", PATCHES),
    double_rows: ("milvus", Kind.EXTRA, "22 rows in place of 20", 2),
}


async def test_what_ready_documents_lack_is_found_once_each_and_left_as_it_is(shelf: Shelf) -> None:
    expected = set()
    for lose, (store, kind, what, count) in LOSSES.items():
        await lose(shelf, await shelf.put(lose.__name__))
        expected.add(Finding(store, kind, what, count, lose.__name__, shelf.collection))
    before = [await shelf.holdings(lose.__name__) for lose in LOSSES]
    for options in ({}, {"repair": True}, {"collection": shelf.collection}):
        found = await shelf.findings(**options)
        assert set(found) == expected
        assert len(found) == len(LOSSES)
    assert [await shelf.holdings(lose.__name__) for lose in LOSSES] == before
    assert await shelf.holdings("d1") == whole(PAGES)
    assert await shelf.holdings("d2") == whole(OTHER_PAGES)


async def add_objects(shelf: Shelf) -> Finding:
    await shelf.services.blobs.put(image_key("d1", 1, "png"), b"other picture", "image/png")
    # A key that others, which are needed, begin with.
    await shelf.services.blobs.put(f"{pages_prefix('d1')}000001", b"", "text/plain")
    return Finding("s3", Kind.EXTRA, "pages/000001", 2, "d1", shelf.collection)


async def add_unrecorded_objects(shelf: Shelf) -> Finding:
    await shelf.services.blobs.put(source_key("d0"), b"%PDF-", "application/pdf")
    await shelf.services.blobs.put(vectors_key("d0", 1), b"", "text/plain")
    return Finding("s3", Kind.ORPHAN, "pages/000001.bf16", 2, "d0")


async def add_page_records_of_nobody(shelf: Shelf) -> Finding:
    first = await shelf.services.documents.reserve_page_keys(3)
    await shelf.services.documents.put_pages([record(first + n, "gone", n + 1) for n in (0, 2)])
    return Finding("mongodb", Kind.ORPHAN, "record of page 1", 2, "gone")


async def add_page_record_outside_its_document(shelf: Shelf) -> Finding:
    first = await shelf.services.documents.reserve_page_keys(1)
    await shelf.services.documents.put_pages([record(first, "d2", 7)])
    return Finding("mongodb", Kind.ORPHAN, "record of page 7", 1, "d2")


async def add_rows_between(shelf: Shelf) -> Finding:
    """In a gap of thousands of page keys, between documents."""
    first = await shelf.services.documents.reserve_page_keys(5000)
    await shelf.put("d3")
    await shelf.services.vectors.upsert(shelf.collection, [page_of(1, first + n) for n in (1700, 4999)])
    low, high = (await shelf.document("d2")).page_keys.stop, first + 4999
    what = f"rows of page keys {low} to {high}"
    return Finding("milvus", Kind.ORPHAN, what, 2 * PATCHES, collection=shelf.collection)


async def add_rows_behind(shelf: Shelf) -> Finding:
    first = await shelf.services.documents.reserve_page_keys(2)
    await shelf.services.vectors.upsert(shelf.collection, [page_of(1, first)])
    what = f"rows of page keys {first} to {first + 1}"
    return Finding("milvus", Kind.ORPHAN, what, PATCHES, collection=shelf.collection)


async def test_what_no_document_refers_to_is_found_once_each_and_deleted_without_anything_else(shelf: Shelf) -> None:
    expected = {
        await add_objects(shelf),
        await add_unrecorded_objects(shelf),
        await add_page_records_of_nobody(shelf),
        await add_page_record_outside_its_document(shelf),
        await add_rows_between(shelf),
        await add_rows_behind(shelf),
    }
    found = await shelf.findings()
    assert set(found) == expected
    assert len(found) == len(expected)
    assert set(await shelf.findings(repair=True)) == {replace(finding, is_repaired=True) for finding in expected}
    assert await shelf.findings() == []
    for id_, pages in (("d1", PAGES), ("d2", OTHER_PAGES), ("d3", PAGES)):
        assert await shelf.holdings(id_) == whole(pages)


def record(page_key: int, id_: str, number: int) -> PageRecord:
    return PageRecord(page_key, id_, number, 10, 10, PATCHES, image_key(id_, number, "webp"), "text")


async def test_stores_in_order_have_no_findings(shelf: Shelf) -> None:
    assert await shelf.findings() == []
    assert await shelf.findings(collection=shelf.collection) == []
    assert await shelf.findings(repair=True) == []
    assert await shelf.holdings("d1") == whole(PAGES)


async def test_stores_that_were_never_prepared_have_no_findings(services: Services) -> None:
    assert [finding async for finding in auditor(services).findings()] == []


async def test_a_lost_record_leaves_orphans_in_every_store(shelf: Shelf) -> None:
    lost = await shelf.document("d1")
    await shelf.forget(lost)
    what = f"rows of page keys 0 to {lost.page_keys.stop - 1}"
    found = await shelf.findings(repair=True)
    assert found == [
        Finding("s3", Kind.ORPHAN, "pages/000001.bf16", 2 * PAGES + 1, "d1", is_repaired=True),
        Finding("mongodb", Kind.ORPHAN, "record of page 1", PAGES, "d1", is_repaired=True),
        Finding("milvus", Kind.ORPHAN, what, PAGES * PATCHES, "", shelf.collection, is_repaired=True),
    ]
    assert await shelf.findings() == []
    assert await shelf.holdings("d2") == whole(OTHER_PAGES)


async def test_rows_of_a_collection_that_is_gone_are_missing(shelf: Shelf) -> None:
    """As when a document gets ready while its collection is being deleted."""
    await shelf.services.vectors.drop(shelf.collection)
    await shelf.services.documents.drop_collection(shelf.collection)
    assert [(found.document_id, found.what) for found in await shelf.findings()] == [
        ("d1", "0 rows in place of 20"),
        ("d2", "0 rows in place of 15"),
    ]


async def test_an_object_may_be_without_a_record_for_as_long_as_an_upload_takes(shelf: Shelf) -> None:
    await add_unrecorded_objects(shelf)
    patient = auditor(shelf.services, orphan_grace_s=3600)
    assert [finding async for finding in patient.findings(repair=True)] == []
    assert len(await shelf.services.blobs.list_keys(document_prefix("d0"))) == 2


async def test_objects_that_are_in_no_documents_folder_are_not_ours(shelf: Shelf) -> None:
    for key in ("documents/stray.pdf", "elsewhere/d9/source.pdf"):
        await shelf.services.blobs.put(key, b"", "text/plain")
    assert await shelf.findings(repair=True) == []
    assert await shelf.services.blobs.list_keys("documents/stray.pdf") == ["documents/stray.pdf"]


@pytest.mark.parametrize("written", [0, 2])
async def test_a_document_that_is_being_processed_may_be_incomplete(shelf: Shelf, written: int) -> None:
    await shelf.put("d3", written=written)
    assert await shelf.findings(repair=True) == []


async def test_findings_are_told_apart_by_collection(shelf: Shelf) -> None:
    await lose_image(shelf, await shelf.document("d1"))
    await add_unrecorded_objects(shelf)
    assert await shelf.findings(collection="another") == []
    assert [found.document_id for found in await shelf.findings(collection=shelf.collection)] == ["d1"]


async def test_small_batches_find_the_same(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.audit.contents._DOCUMENTS_AT_ONCE", 1)
    monkeypatch.setattr("workers.audit.contents._PAGES_AT_ONCE", 2)
    monkeypatch.setattr("workers.audit.strays._PAGES_AT_ONCE", 2)
    monkeypatch.setattr("workers.audit.rows._DOCUMENTS_AT_ONCE", 1)
    monkeypatch.setattr("workers.audit.auditor._SUSPECTS_AT_ONCE", 1)
    monkeypatch.setattr("ingestion.adapters.minio._LISTED", 2)
    await shelf.put("d3", 7)
    assert await shelf.findings() == []
    await lose_image(shelf, await shelf.document("d1"))
    await lose_rows(shelf, await shelf.document("d1"))
    assert [(found.store, found.document_id) for found in await shelf.findings()] == [("s3", "d1"), ("milvus", "d1")]


async def test_nobody_is_blamed_while_documents_come_and_go(shelf: Shelf) -> None:
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
            assert [finding async for finding in patient.findings(repair=True)] == []
    finally:
        finished.set()
        rounds = await asyncio.gather(*lanes)
    assert min(rounds) > 0
    assert await shelf.findings() == []
    assert await shelf.holdings("d1") == whole(PAGES)


def janitor_command(tmp_path: Path, *options: str) -> Result:
    """`pagemill janitor` of the settings in the environment, from a folder in which no stack runs."""
    hurry = {f"PAGEMILL_JANITOR_{name}_S": "0.001" for name in ("GRACE", "ORPHAN_GRACE", "SETTLE")}
    folder = Path.cwd()
    os.chdir(tmp_path)
    try:
        return CliRunner().invoke(app, ["janitor", *options], env={**os.environ, **hurry})
    finally:
        os.chdir(folder)


async def test_the_command_says_that_nothing_was_found(shelf: Shelf, tmp_path: Path) -> None:
    result = await asyncio.to_thread(janitor_command, tmp_path, "--check")
    assert (result.exit_code, result.stdout) == (0, "nothing found\n")


async def test_a_check_reports_what_is_wrong_and_changes_nothing(shelf: Shelf, tmp_path: Path) -> None:
    await lose_image(shelf, await shelf.document("d1"))
    await add_unrecorded_objects(shelf)
    await shelf.services.documents.insert(document("d7", shelf.collection))
    result = await asyncio.to_thread(janitor_command, tmp_path, "--check", "--json")
    assert result.exit_code == 1
    assert [json.loads(line) for line in result.stdout.splitlines()] == [
        {
            "store": "s3",
            "kind": "orphan",
            "document_id": "d0",
            "collection": "",
            "what": "pages/000001.bf16",
            "count": 2,
            "repaired": False,
        },
        {
            "store": "s3",
            "kind": "missing",
            "document_id": "d1",
            "collection": shelf.collection,
            "what": "pages/000002.webp",
            "count": 1,
            "repaired": False,
        },
    ]
    untouched = await shelf.services.documents.get("d7")
    assert untouched is not None
    assert (untouched.state, untouched.outbox) == (DocumentState.RECEIVED, "pending")


async def test_a_round_repairs_what_it_can_and_fails_for_the_rest(shelf: Shelf, tmp_path: Path) -> None:
    await add_unrecorded_objects(shelf)
    await shelf.services.documents.insert(
        replace(document("d7", shelf.collection), first_page_key=await shelf.services.documents.reserve_page_keys(60))
    )
    result = await asyncio.to_thread(janitor_command, tmp_path)
    assert result.exit_code == 0, result.output
    assert "repaired unpublished: 1 document(s)" in result.stdout
    assert "deleted" in result.stdout
    assert await shelf.services.blobs.list_keys(document_prefix("d0")) == []
    await lose_rows(shelf, await shelf.document("d1"))
    result = await asyncio.to_thread(janitor_command, tmp_path)
    assert result.exit_code == 1
    assert "15 rows in place of 20" in result.stdout
    assert "delete the document and upload it again" in result.stdout


async def test_a_folder_without_a_stack_is_an_error(tmp_path: Path) -> None:
    result = await asyncio.to_thread(janitor_command, tmp_path, "--check", "--data-dir", str(tmp_path))
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: the stack is unavailable: none runs on {tmp_path}; start it with")
