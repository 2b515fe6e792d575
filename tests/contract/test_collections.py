"""Archiving, restoring and dropping a collection on real stores."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ingestion.bootstrap import Services
from ingestion.catalogue.holds import held
from ingestion.catalogue.states import CollectionState, archives_of
from ingestion.errors import (
    CollectionArchived,
    CollectionBusy,
    CollectionHeld,
    Conflict,
    NotFound,
    WorkerFault,
)
from ingestion.model import DocumentState, converted_key
from tests.support.archives import archiver, everything, search
from tests.support.documents import FAILURE, S
from tests.support.shelf import OTHER_PAGES, PAGES, PATCHES, Shelf, open_shelf, whole
from workers.wiring import remover_of


@pytest.fixture
async def shelf(services: Services, collection: str) -> AsyncIterator[Shelf]:
    async with open_shelf(services, collection) as shelf:
        yield shelf


async def state_of(shelf: Shelf) -> CollectionState:
    record = await shelf.services.documents.collection(shelf.collection)
    assert record is not None
    return record.state


async def test_an_archived_collection_is_in_the_object_store_alone(shelf: Shelf) -> None:
    services = shelf.services
    objects = await services.blobs.list_keys("documents/")
    archive = await archiver(services).archive(shelf.collection)
    assert (archive.documents, archive.pages, archive.rows) == (
        2,
        PAGES + OTHER_PAGES,
        (PAGES + OTHER_PAGES) * PATCHES,
    )
    assert await shelf.records["documents"].count_documents({}) == 0
    assert await shelf.records["pages"].count_documents({}) == 0
    assert await services.vectors.count(shelf.collection) == 0
    assert await services.blobs.list_keys("documents/") == objects
    folder = await services.blobs.list_keys(archives_of(shelf.collection))
    assert sorted(key.rpartition("/")[2] for key in folder) == [
        "documents-00001.parquet",
        "manifest.json",
        "pages-00001.parquet",
        "rows-00001.parquet",
    ]


async def test_a_restored_collection_is_what_it_was_and_is_searched_as_it_was(shelf: Shelf) -> None:
    await shelf.services.documents.fail((await shelf.put("d3", written=2)).id, 1, FAILURE)
    before, hits = await everything(shelf), await search(shelf)
    assert hits
    version = (await shelf.services.documents.searchable(shelf.collection)).version  # type: ignore[union-attr]
    await archiver(shelf.services).archive(shelf.collection)
    with pytest.raises(CollectionArchived, match=f"pagemill collections restore {shelf.collection}"):
        await search(shelf)
    with pytest.raises(CollectionArchived):
        await shelf.services.documents.bind_collection(shelf.collection, "test/words/32", 32)
    await archiver(shelf.services).restore(shelf.collection)
    assert await everything(shelf) == before
    assert await search(shelf) == hits
    assert (await shelf.services.documents.searchable(shelf.collection)).version != version  # type: ignore[union-attr]
    assert await shelf.services.blobs.list_keys(archives_of(shelf.collection)) == []
    assert await shelf.records["archived"].count_documents({}) == 0
    assert await shelf.mismatches() == []


async def test_a_restored_document_has_its_file_and_what_it_was_converted_to(shelf: Shelf) -> None:
    await shelf.records["documents"].update_one({"_id": "d1"}, {"$set": {"media_type": "image/tiff"}})
    await shelf.services.blobs.put(converted_key("d1"), b"%PDF-", "application/pdf")
    before = await everything(shelf)
    await archiver(shelf.services).archive(shelf.collection)
    assert await shelf.mismatches(repair=True) == []
    await archiver(shelf.services).restore(shelf.collection)
    assert await everything(shelf) == before
    assert (await shelf.document("d1")).is_converted and await shelf.mismatches() == []


async def test_many_small_parts_come_back_whole(shelf: Shelf) -> None:
    before = await everything(shelf)
    archive = await archiver(shelf.services, part_bytes=1, read_bytes=1).archive(shelf.collection)
    rows = [key for key in await shelf.services.blobs.list_keys(archives_of(shelf.collection)) if "/rows-" in key]
    assert len(rows) == archive.pages
    await archiver(shelf.services).restore(shelf.collection)
    assert await everything(shelf) == before


async def test_refused_and_repeated_operations_change_nothing(shelf: Shelf) -> None:
    async with held(shelf.services.documents, shelf.collection):
        for work in (archiver(shelf.services).archive, remover_of(shelf.services).delete_collection):
            with pytest.raises(CollectionHeld):
                await work(shelf.collection)
    with pytest.raises(Conflict, match="nothing to restore"):
        await archiver(shelf.services).restore(shelf.collection)
    first = await archiver(shelf.services).archive(shelf.collection)
    assert await archiver(shelf.services).archive(shelf.collection) == first
    assert await state_of(shelf) is CollectionState.ARCHIVED
    with pytest.raises(NotFound):
        await archiver(shelf.services).archive("nowhere")


async def test_a_collection_with_documents_in_progress_is_left_as_it_was(shelf: Shelf) -> None:
    working = await shelf.put("d3", written=1)
    before = await everything(shelf)
    with pytest.raises(CollectionBusy, match="in progress: d3"):
        await archiver(shelf.services).archive(shelf.collection)
    assert await state_of(shelf) is CollectionState.ACTIVE
    assert await everything(shelf) == before
    await shelf.services.documents.finish(working)


async def test_a_collection_that_lacks_rows_is_not_archived(shelf: Shelf) -> None:
    await shelf.services.vectors.delete_pages(shelf.collection, (await shelf.document("d2")).first_page_key, 1)
    with pytest.raises(CollectionBusy, match=f"has 0 rows in place of {PATCHES}"):
        await archiver(shelf.services).archive(shelf.collection)
    assert await state_of(shelf) is CollectionState.ACTIVE
    assert (await shelf.document("d1")).state is S.READY


async def test_an_archive_that_reads_back_differently_is_discarded(shelf: Shelf) -> None:
    services = shelf.services
    damaged = archiver(services, blobs=Damaging(services.blobs, "rows-"))
    with pytest.raises(WorkerFault, match="is not what was written"):
        await damaged.archive(shelf.collection)
    assert await state_of(shelf) is CollectionState.ACTIVE
    assert await shelf.holdings("d1") == whole(PAGES)
    assert await services.blobs.list_keys(archives_of(shelf.collection)) == []


async def test_a_damaged_archive_is_not_restored_and_nothing_of_it_is_searchable(shelf: Shelf) -> None:
    services = shelf.services
    await archiver(services).archive(shelf.collection)
    [pages] = [key for key in await services.blobs.list_keys(archives_of(shelf.collection)) if "/pages-" in key]
    content = await services.blobs.get(pages)
    await services.blobs.put(pages, content[:-1], "text/plain")
    with pytest.raises(WorkerFault, match="is not what was written"):
        await archiver(services).restore(shelf.collection)
    assert await state_of(shelf) is CollectionState.RESTORING
    with pytest.raises(CollectionArchived, match="being restored"):
        await search(shelf)
    await services.blobs.put(pages, content, "text/plain")
    await archiver(services).restore(shelf.collection)
    assert await shelf.mismatches() == []


async def test_archivers_side_by_side_make_one_archive(shelf: Shelf) -> None:
    before = await everything(shelf)
    outcomes = await asyncio.gather(
        *(archiver(shelf.services).archive(shelf.collection) for _ in range(4)), return_exceptions=True
    )
    assert any(not isinstance(outcome, BaseException) for outcome in outcomes)
    assert all(isinstance(one, CollectionHeld) for one in outcomes if isinstance(one, BaseException)), outcomes
    assert await shelf.mismatches() == []
    await archiver(shelf.services).restore(shelf.collection)
    assert await everything(shelf) == before


async def test_an_archivist_that_lost_its_hold_stops_and_harms_nothing(shelf: Shelf) -> None:
    """Its hold ends at once, and another one archives and restores while it packs."""
    before = await everything(shelf)
    slow = archiver(shelf.services, documents=Interfering(shelf), lease_s=0.0)
    with pytest.raises(Exception, match="no longer held"):
        await slow.archive(shelf.collection)
    assert await state_of(shelf) is CollectionState.ACTIVE
    assert await everything(shelf) == before
    assert await shelf.mismatches(repair=True) == []


async def test_dropping_an_archived_collection_leaves_nothing_of_it_and_all_of_others(shelf: Shelf) -> None:
    services = shelf.services
    await archiver(services).archive(shelf.collection)
    longer = f"archives/{shelf.collection}x/1/manifest.json"
    await services.blobs.put(longer, b"", "text/plain")
    await remover_of(services).delete_collection(shelf.collection)
    for name in ("documents", "pages", "collections", "archived"):
        assert await shelf.records[name].count_documents({}) == 0
    assert await services.blobs.list_keys("") == [longer]


async def test_dropping_takes_what_an_unfinished_archiving_left(shelf: Shelf) -> None:
    services = shelf.services
    async with held(services.documents, shelf.collection) as hold:
        await services.documents.begin_archive(hold.name, hold.token, hold.token)
        await hold.freeze()
        await services.blobs.put(f"{archives_of(hold.name)}{hold.token}/rows-00001.parquet", b"", "text/plain")
    with pytest.raises(CollectionArchived):
        await remover_of(services).delete_document("d1")
    await remover_of(services).delete_collection(shelf.collection)
    assert await services.blobs.list_keys("") == []
    assert await shelf.records["documents"].count_documents({}) == 0


async def test_a_restore_undoes_an_archiving_in_its_first_step(shelf: Shelf) -> None:
    before = await everything(shelf)
    async with held(shelf.services.documents, shelf.collection) as hold:
        await shelf.services.documents.begin_archive(hold.name, hold.token, hold.token)
        await hold.freeze()
    assert (await shelf.document("d1")).state is DocumentState.ARCHIVED
    await archiver(shelf.services).restore(shelf.collection)
    assert await everything(shelf) == before


class Damaging:
    """An object store that changes the last byte of each file whose name has `marked` in it."""

    def __init__(self, blobs: Any, marked: str) -> None:
        self._blobs = blobs
        self._marked = marked

    def __getattr__(self, name: str) -> Any:
        return getattr(self._blobs, name)

    async def put_file(self, key: str, path: Path, content_type: str) -> None:
        await self._blobs.put_file(key, path, content_type)
        if self._marked in key:
            content = path.read_bytes()
            await self._blobs.put(key, content[:-1] + bytes([content[-1] ^ 1]), content_type)


class Interfering:
    """The records, on which another archiver acts while the pages are read."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._done = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._shelf.services.documents, name)

    async def pack_pages(self, page_keys: range, generation: int) -> Any:
        if not self._done:
            self._done = True
            await archiver(self._shelf.services).archive(self._shelf.collection)
            await archiver(self._shelf.services).restore(self._shelf.collection)
        return await self._shelf.services.documents.pack_pages(page_keys, generation)
