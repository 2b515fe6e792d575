"""Backups in another bucket: made while the collection is in use, restored here and on a system that never had it."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from typer.testing import Result

from ingestion.adapters.minio import MinioBlobStore
from ingestion.bootstrap import Services, open_services
from ingestion.catalogue.states import CollectionState
from ingestion.errors import CollectionArchived, CollectionBusy, WorkerFault
from ingestion.model import document_prefix
from ingestion.ports import BlobStore
from ingestion.prepare import prepare
from ingestion.settings import Settings
from tests.conftest import remove_bucket
from tests.contract.test_collection_lifecycle import collections_command, lifecycle
from tests.support.archives import archiver, everything, search
from tests.support.shelf import PAGES, PATCHES, Shelf, open_shelf
from workers.backup.fetcher import BackupFetcher
from workers.backup.location import backup_store
from workers.backup.manifest import BackupManifest, backup_ids, object_key
from workers.backup.writer import BackupWriter
from workers.lifecycle.housekeeping import LifecycleChange
from workers.wiring import backup_fetcher_of, backup_writer_of, remover_of


@pytest.fixture
async def shelf(services: Services, collection: str) -> AsyncIterator[Shelf]:
    async with open_shelf(services, collection) as shelf:
        yield shelf


@pytest.fixture
def location(settings: Settings) -> str:
    return f"s3://{settings.s3.s3_bucket}-backups/nightly"


@pytest.fixture
async def backups(settings: Settings, location: str) -> AsyncIterator[BlobStore]:
    """A store in a bucket of its own."""
    own = backup_store(location, settings.s3, settings.backup)
    async with MinioBlobStore(own) as store:
        await store.prepare()
        yield store
    remove_bucket(own)


@pytest.fixture
async def elsewhere(services: Services, collection: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Shelf]:
    """An installation that has other documents under the page keys of the first, and not the collection."""
    unique = secrets.token_hex(4)
    monkeypatch.setenv("PAGEMILL_MONGO_DATABASE", f"test_{unique}")
    monkeypatch.setenv("PAGEMILL_S3_BUCKET", f"test-{unique}")
    monkeypatch.setenv("PAGEMILL_MILVUS_COLLECTION_PREFIX", f"other_{unique}")
    settings = Settings()
    await prepare(settings)
    client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(settings.mongo.mongo_uri)
    async with open_services(settings) as others:
        shelf = Shelf(others, collection, client[settings.mongo.mongo_database])
        await replace(shelf, collection="others").put("o1", 9)
        yield shelf
        await others.vectors.drop(collection)
        await others.vectors.drop("others")
    await client.drop_database(settings.mongo.mongo_database)
    client.close()
    remove_bucket(settings.s3)


def writer(shelf: Shelf, backups: BlobStore, **stores: Any) -> BackupWriter:
    return replace(backup_writer_of(shelf.services, backups), **stores)


def fetcher(shelf: Shelf, backups: BlobStore) -> BackupFetcher:
    return backup_fetcher_of(shelf.services, backups)


async def restore(shelf: Shelf, backups: BlobStore, backup_id: str = "") -> BackupManifest:
    fetched = await fetcher(shelf, backups).fetch(shelf.collection, backup_id)
    await archiver(shelf.services).restore(shelf.collection)
    return fetched


async def contents(shelf: Shelf) -> dict[str, Any]:
    """As `everything`, without what a restore from a backup changes: page keys, and fields made of them."""
    found = await everything(shelf)
    documents = [one for one in found["documents"] if one["collection"] == shelf.collection]
    ids = {one["_id"] for one in documents}
    pages = sorted(
        (one for one in found["pages"] if one["document_id"] in ids),
        key=lambda one: (one["document_id"], one["page_number"]),
    )
    objects = [key for key in found["objects"] if key.split("/")[1] in ids]
    return {
        "documents": [{**one, "first_page_key": 0, "fence": 0, "revision": 0} for one in documents],
        "pages": [{**one, "_id": 0} for one in pages],
        "rows": [found["rows"][one["_id"]] for one in pages if one["_id"] in found["rows"]],
        "objects": dict(zip(objects, await shelf.services.blobs.get_many(objects), strict=True)),
    }


async def state_of(shelf: Shelf) -> CollectionState | None:
    record = await shelf.services.documents.collection(shelf.collection)
    return record.state if record else None


async def test_a_deleted_collection_comes_back_with_the_same_answers(shelf: Shelf, backups: BlobStore) -> None:
    before, hits = await contents(shelf), await search(shelf)
    made = await writer(shelf, backups).write(shelf.collection)
    assert await contents(shelf) == before, "the collection stays in use"
    assert await search(shelf) == hits
    await remover_of(shelf.services).delete_collection(shelf.collection)
    assert await shelf.services.blobs.list_keys("") == []
    await restore(shelf, backups)
    assert await contents(shelf) == before
    assert await search(shelf) == hits
    assert await shelf.mismatches() == []
    totals = made.totals()
    assert (totals.documents, totals.pages, totals.rows) == (2, 7, 7 * PATCHES)
    assert totals.objects == len(before["objects"])


async def test_a_system_that_never_had_it_gives_the_same_answers(
    shelf: Shelf, elsewhere: Shelf, backups: BlobStore
) -> None:
    for id_, revision in (("d1", 7_000), ("d2", 5_000)):
        versioned = {"key": f"key of {id_}", "revision": revision, "replaced_by": ""}
        await shelf.records["documents"].update_one({"_id": id_}, {"$set": versioned})
    before, hits = await contents(shelf), await search(shelf)
    others = replace(elsewhere, collection="others")
    untouched = await contents(others)
    await writer(shelf, backups).write(shelf.collection)
    await restore(elsewhere, backups)
    assert await contents(elsewhere) == before
    assert await search(elsewhere) == hits
    assert await contents(others) == untouched, "its page keys were in use here"
    assert await elsewhere.mismatches() == []
    bindings = [await one.services.documents.binding(shelf.collection) for one in (shelf, elsewhere)]
    assert bindings[0] == bindings[1]
    older, newer = [(await elsewhere.document(id_)).revision for id_ in ("d2", "d1")]
    assert 0 < older < newer < await elsewhere.services.documents.reserve_page_keys(1), "the next upload is the newest"


async def test_the_latest_is_restored_or_the_one_that_is_named_without_what_was_in_progress(
    shelf: Shelf, backups: BlobStore
) -> None:
    first = await writer(shelf, backups).write(shelf.collection)
    await shelf.put("d3")
    before = await contents(shelf)
    await shelf.put("d4", written=1)
    await writer(shelf, backups).write(shelf.collection)
    await remover_of(shelf.services).delete_collection(shelf.collection)
    await restore(shelf, backups, first.backup_id)
    assert [one["_id"] for one in (await contents(shelf))["documents"]] == ["d1", "d2"]
    await remover_of(shelf.services).delete_collection(shelf.collection)
    await restore(shelf, backups)
    assert await contents(shelf) == before


class Meanwhile:
    """Does something once, before the first call of the method."""

    def __init__(self, port: Any, method: str, work: Any) -> None:
        self._port, self._method, self._work = port, method, work

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        if name != self._method:
            return found

        async def call(*args: Any, **kwargs: Any) -> Any:
            work, self._work = self._work, None
            if work is not None:
                await work()
            return await found(*args, **kwargs)

        return call


@pytest.mark.parametrize(("port", "method"), [("vectors", "read_pages"), ("blobs", "list_keys")])
async def test_a_document_that_is_deleted_meanwhile_is_left_out(
    shelf: Shelf, backups: BlobStore, port: str, method: str
) -> None:
    async def delete() -> None:
        await remover_of(shelf.services).delete_document("d1")

    stores: dict[str, Any] = {port: Meanwhile(getattr(shelf.services, port), method, delete)}
    made = await writer(shelf, backups, **stores).write(shelf.collection)
    assert made.left_out == ("d1",)
    rest = await contents(shelf)
    await remover_of(shelf.services).delete_collection(shelf.collection)
    await restore(shelf, backups)
    assert await shelf.services.documents.get("d1") is None
    assert await contents(shelf) == rest
    assert await shelf.mismatches() == []


async def test_a_collection_that_is_re_embedded_or_lacks_rows_or_is_archived_is_not_backed_up(
    shelf: Shelf, backups: BlobStore
) -> None:
    documents, vectors = shelf.services.documents, shelf.services.vectors

    async def begin() -> None:
        await documents.begin_generation(shelf.collection, "another", 32)

    with pytest.raises(CollectionBusy, match="re-embedded"):
        await writer(shelf, backups, vectors=Meanwhile(vectors, "read_pages", begin)).write(shelf.collection)
    with pytest.raises(CollectionBusy, match="re-embedded"):
        await writer(shelf, backups).write(shelf.collection)
    await documents.abandon_generation(shelf.collection)
    await documents.forget_leaving(shelf.collection, 2)
    await vectors.delete_pages(shelf.collection, (await shelf.document("d2")).first_page_key, 1)
    with pytest.raises(CollectionBusy, match="0 rows in place of 5"):
        await writer(shelf, backups).write(shelf.collection)
    await remover_of(shelf.services).delete_document("d2")
    await archiver(shelf.services).archive(shelf.collection)
    with pytest.raises(CollectionArchived, match="is archived"):
        await writer(shelf, backups).write(shelf.collection)
    assert await backup_ids(backups, shelf.collection) == []


async def test_what_a_damaged_backup_left_is_dropped_by_the_janitor(shelf: Shelf, backups: BlobStore) -> None:
    made = await writer(shelf, backups).write(shelf.collection)
    await remover_of(shelf.services).delete_collection(shelf.collection)
    [source] = [
        key for key in await backups.list_keys(object_key(made.prefix, document_prefix("d1"))) if "source" in key
    ]
    content = await backups.get(source)
    await backups.put(source, content + b"?", "application/pdf")
    with pytest.raises(WorkerFault, match="is not what was written"):
        await fetcher(shelf, backups).fetch(shelf.collection)
    assert await state_of(shelf) is CollectionState.RECEIVING
    assert await shelf.mismatches(repair=True) == [], "an audit takes nothing from it"
    with pytest.raises(CollectionArchived, match="is being restored"):
        await shelf.services.documents.require_active(shelf.collection)
    assert (await lifecycle(shelf).round()).done == {LifecycleChange.DROPPED: 1}
    assert await shelf.services.blobs.list_keys("") == []
    await backups.put(source, content, "application/pdf")
    await restore(shelf, backups)
    assert (await shelf.document("d1")).pages == PAGES


async def test_the_commands(shelf: Shelf, backups: BlobStore, location: str, tmp_path: Path) -> None:
    async def run(*arguments: str) -> Result:
        return await asyncio.to_thread(collections_command, tmp_path, *arguments)

    before = await contents(shelf)
    assert "belong together" in (await run("archive", shelf.collection, "--to", location)).stderr
    own = f"s3://{shelf.services.settings.s3.s3_bucket}/x"
    assert "name another" in (await run("archive", shelf.collection, "--keep", "--to", own)).stderr
    missing = await run("archive", shelf.collection, "--keep", "--to", "s3://no-such-bucket")
    assert "there is no such bucket" in missing.stderr
    assert "use s3://BUCKET" in (await run("archive", shelf.collection, "--keep", "--to", "https://x")).stderr
    made = json.loads((await run("archive", shelf.collection, "--keep", "--to", location, "--json")).stdout)
    assert (made["outcome"], made["documents"], made["pages"], made["left_out"]) == ("backed_up", 2, 7, 0)
    assert await state_of(shelf) is CollectionState.ACTIVE
    assert "is there already" in (await run("restore", shelf.collection, "--from", location)).stderr
    assert (await run("drop", shelf.collection, "--yes")).exit_code == 0
    assert "there are" in (await run("restore", shelf.collection, "--from", location, "--backup", "x")).stderr
    done = await run("restore", shelf.collection, "--from", location)
    assert done.exit_code == 0, done.output
    assert made["backup"] in done.stdout
    assert await contents(shelf) == before
