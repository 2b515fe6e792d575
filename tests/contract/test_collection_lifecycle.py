"""The collection lifecycle in the janitor: unused collections expire, and interrupted work is finished."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from pymilvus import MilvusClient
from structlog.testing import capture_logs
from typer.testing import CliRunner, Result

from ingestion import dead_letters, metrics
from ingestion.adapters.milvus.names import index_name
from ingestion.bootstrap import DocumentStore, Services, open_services
from ingestion.catalogue.holds import held
from ingestion.catalogue.states import Archive, CollectionRecord, CollectionState, archives_of
from ingestion.dead_letters import DeadLetter
from ingestion.errors import CollectionArchived, LeaseLost
from ingestion.model import document_id, document_prefix, pages_prefix, source_key
from ingestion.replay.entries import DeadLetterStatus
from ingestion.replay.replayer import Reason, Replayer
from ingestion.replay.selection import Selection
from ingestion.sandbox.pool import Sandbox
from ingestion.settings import Settings
from ingestion.submit import Submitter, Upload
from ingestion.usage import UsageRecorder
from tests.support.archives import archiver, everything
from tests.support.desk import GONE
from tests.support.documents import S
from tests.support.pipelines import ScriptedEmbedder, pipeline
from tests.support.shelf import PAGES, Shelf, objects_of, open_shelf
from tests.support.uploads import make_upload
from workers.cli import app
from workers.lifecycle.housekeeping import CollectionLifecycle, LifecycleChange
from workers.wiring import archiver_of, remover_of

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
async def shelf(services: Services, collection: str) -> AsyncIterator[Shelf]:
    async with open_shelf(services, collection) as shelf:
        yield shelf


def lifecycle(shelf: Shelf, expiry: Any = "off") -> CollectionLifecycle:
    services = shelf.services
    return CollectionLifecycle(
        services.documents, archiver_of(services), remover_of(services), expiry, timedelta(days=90)
    )


async def state_of(shelf: Shelf) -> CollectionState | None:
    record = await shelf.services.documents.collection(shelf.collection)
    return record.state if record else None


async def used(shelf: Shelf, at: datetime | None) -> None:
    await shelf.records["collections"].update_one({"_id": shelf.collection}, {"$set": {"last_used_at": at}})


async def last_use(shelf: Shelf) -> datetime | None:
    record = await shelf.services.documents.collection(shelf.collection)
    return record.last_used_at if record else None


async def test_a_collection_expires_only_where_it_is_wanted_and_after_its_time(shelf: Shelf) -> None:
    await used(shelf, LONG_AGO)
    assert not (await lifecycle(shelf).round()).done
    await used(shelf, datetime.now(UTC) - timedelta(days=89))
    assert not (await lifecycle(shelf, "archive").round()).done
    await used(shelf, None)
    assert not (await lifecycle(shelf, "archive").round()).done, "its last use is unknown"
    assert await last_use(shelf) is not None, "the time counts from now"
    await used(shelf, LONG_AGO)
    assert (await lifecycle(shelf, "archive").round()).done == {LifecycleChange.EXPIRED_ARCHIVED: 1}
    assert await state_of(shelf) is CollectionState.ARCHIVED
    assert not (await lifecycle(shelf, "drop").round()).done, "an archive is kept"
    await archiver(shelf.services).restore(shelf.collection)
    assert not (await lifecycle(shelf, "drop").round()).done, "bringing it back was a use"
    await used(shelf, LONG_AGO)
    counted = metrics.COLLECTIONS_CHANGED.labels("expired_dropped")._value.get()
    with capture_logs() as logs:
        assert (await lifecycle(shelf, "drop").round()).done == {LifecycleChange.EXPIRED_DROPPED: 1}
    assert metrics.COLLECTIONS_CHANGED.labels("expired_dropped")._value.get() == counted + 1
    [line] = [line for line in logs if line.get("action")]
    assert (line["event"], line["action"]) == ("collection changed", "expired_dropped")
    assert await shelf.services.blobs.list_keys("") == []


async def test_a_collection_with_documents_in_progress_does_not_expire(shelf: Shelf) -> None:
    await shelf.put("d3", written=1)
    await used(shelf, LONG_AGO)
    before = await everything(shelf)
    for expiry in ("archive", "drop"):
        result = await lifecycle(shelf, expiry).round()
        assert (result.done, result.failed) == ({}, [])
        assert await state_of(shelf) is CollectionState.ACTIVE
        assert await everything(shelf) == before


async def test_a_restored_collection_has_the_index_of_todays_settings_and_the_same_rows(
    shelf: Shelf, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await everything(shelf)
    await archiver(shelf.services).archive(shelf.collection)
    monkeypatch.setenv("PAGEMILL_INDEX_TYPE", "HNSW_SQ")
    async with open_services(Settings()) as services:
        await archiver(services).restore(shelf.collection)
    with closing(MilvusClient(settings.milvus.milvus_uri)) as client:
        assert client.describe_index(index_name(shelf.collection), "vector")["index_type"] == "HNSW_SQ"
    assert await everything(shelf) == before
    query = np.eye(32, dtype=np.float32)[:2]
    assert len((await shelf.services.vectors.search(shelf.collection, query, 5)).page_keys) == 10


class SeenEarlier:
    """The records, with an old list of collections."""

    def __init__(self, documents: DocumentStore, listed: Sequence[CollectionRecord]) -> None:
        self._documents = documents
        self._listed = listed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._documents, name)

    async def collection_records(self) -> Sequence[CollectionRecord]:
        return self._listed


async def late_lifecycle(shelf: Shelf, expiry: Any = "off") -> CollectionLifecycle:
    """One that has looked at the collections now, and acts later."""
    documents = shelf.services.documents
    listed = SeenEarlier(documents, await documents.collection_records())
    return replace(lifecycle(shelf, expiry), records=cast(DocumentStore, listed))


async def test_a_collection_that_was_dropped_and_filled_again_is_not_dropped_once_more(shelf: Shelf) -> None:
    async with held(shelf.services.documents, shelf.collection) as hold:
        await hold.move(CollectionState.DROPPING, None)
    late = await late_lifecycle(shelf)
    assert (await lifecycle(shelf).round()).done == {LifecycleChange.DROPPED: 1}
    assert not (await late.round()).done, "no record"
    await shelf.put("d5")
    before = await everything(shelf)
    assert not (await late.round()).done
    assert await everything(shelf) == before


async def test_a_collection_that_is_used_at_the_last_moment_does_not_expire(shelf: Shelf) -> None:
    await used(shelf, LONG_AGO)
    before = await everything(shelf)
    for expiry in ("archive", "drop"):
        late = await late_lifecycle(shelf, expiry)
        await used(shelf, datetime.now(UTC))
        assert not (await late.round()).done
        assert await everything(shelf) == before
        await used(shelf, LONG_AGO)


async def test_a_thaw_changes_the_version_of_the_collection(shelf: Shelf) -> None:
    documents = shelf.services.documents
    await documents.freeze(shelf.collection, "late")
    before = await documents.searchable(shelf.collection)
    assert (await lifecycle(shelf).round()).done == {LifecycleChange.THAWED: 1}
    assert (await shelf.document("d1")).state is S.READY
    after = await documents.searchable(shelf.collection)
    assert before is not None and after is not None
    assert None not in (before.version, after.version)
    assert after.version != before.version


async def test_the_lifecycle_finishes_the_work_of_a_dead_process(shelf: Shelf) -> None:
    documents, archives = shelf.services.documents, archiver(shelf.services)
    await leave(shelf, CollectionState.ARCHIVING, None)
    assert await finished_by_the_lifecycle(shelf) is CollectionState.ARCHIVED
    archive = await archives.archive(shelf.collection)
    await leave(shelf, CollectionState.FREEING, archive)
    assert await finished_by_the_lifecycle(shelf) is CollectionState.ARCHIVED
    await leave(shelf, CollectionState.RESTORING, archive)
    assert await finished_by_the_lifecycle(shelf) is CollectionState.ACTIVE
    archive = await archives.archive(shelf.collection)
    async with held(documents, shelf.collection) as hold:
        await archives.unpacker.unpack(hold, archive)
    await leave(shelf, CollectionState.OPENING, archive)
    assert await finished_by_the_lifecycle(shelf) is CollectionState.ACTIVE
    await leave(shelf, CollectionState.DROPPING, None)
    assert await finished_by_the_lifecycle(shelf) is None
    assert await shelf.services.blobs.list_keys("") == []


async def leave(shelf: Shelf, state: CollectionState, archive: Archive | None) -> None:
    async with held(shelf.services.documents, shelf.collection) as hold:
        await hold.move(state, archive)
        assert not (await lifecycle(shelf).round()).done, "another process holds the collection"


async def finished_by_the_lifecycle(shelf: Shelf) -> CollectionState | None:
    done = (await lifecycle(shelf).round()).done
    state = await state_of(shelf)
    actions = {CollectionState.ARCHIVED: LifecycleChange.ARCHIVED, CollectionState.ACTIVE: LifecycleChange.RESTORED}
    assert done == {LifecycleChange.DROPPED if state is None else actions[state]: 1}
    assert await shelf.mismatches() == []
    return state


async def test_documents_that_were_frozen_too_late_are_thawed(shelf: Shelf) -> None:
    await shelf.services.documents.freeze(shelf.collection, "long gone")
    assert (await lifecycle(shelf).round()).done == {LifecycleChange.THAWED: 1}
    assert (await shelf.document("d1")).state is S.READY


async def test_a_collection_that_cannot_be_kept_is_named_and_stops_nothing(shelf: Shelf) -> None:
    await archiver(shelf.services).archive(shelf.collection)
    async with held(shelf.services.documents, shelf.collection) as hold:
        assert hold.record.archive is not None
        await hold.move(CollectionState.RESTORING, replace(hold.record.archive, id="lost"))
    assert (await lifecycle(shelf).round()).failed == [shelf.collection]


async def test_the_audit_takes_no_object_of_an_archived_document_and_every_folder_without_a_record(
    shelf: Shelf,
) -> None:
    services = shelf.services
    await archiver(services).archive(shelf.collection)
    objects = await services.blobs.list_keys("")
    await services.blobs.put(f"{archives_of(shelf.collection)}abandoned/rows-00001.parquet", b"", "text/plain")
    [mismatch] = await shelf.mismatches(repair=True)
    assert (mismatch.what.split("/")[2], mismatch.is_repaired) == ("abandoned", True)
    assert await services.blobs.list_keys("") == objects
    await services.blobs.delete([key for key in objects if "/pages-" in key])
    [mismatch] = await shelf.mismatches(repair=True)
    assert (mismatch.kind.value, mismatch.collection) == ("missing", shelf.collection)


async def test_a_worker_that_stood_still_takes_nothing_from_an_archived_document(shelf: Shelf) -> None:
    stale = await shelf.document("d1")
    await archiver(shelf.services).archive(shelf.collection)
    await pipeline(shelf.services, ScriptedEmbedder()).claims.after_loss(stale, LeaseLost("stood still"))
    assert len(await shelf.services.blobs.list_keys(pages_prefix("d1"))) == objects_of(PAGES) - 1


@pytest.mark.parametrize("is_archived_too", [False, True])
async def test_an_upload_during_an_archiving_is_removed_except_for_objects_of_the_archive(
    shelf: Shelf, tmp_path: Path, is_archived_too: bool
) -> None:
    """The archiving begins after the upload has looked whether the collection takes uploads."""
    documents = ArchivedMeanwhile(shelf, is_archived_too)
    late = upload_of(tmp_path / "late.pdf")
    with pytest.raises(CollectionArchived):
        await submitter(shelf.services, documents).submit(shelf.collection, late)
    assert await shelf.records["documents"].count_documents({}) == 0
    key = source_key(document_id(shelf.collection, late.filename, late.sha256))
    assert (key in await shelf.services.blobs.list_keys("")) == is_archived_too


async def test_a_letter_of_an_archived_document_waits_for_its_collection(shelf: Shelf) -> None:
    services = shelf.services
    failing = await shelf.put("d3", written=1)
    await services.documents.fail(failing.id, failing.fence, GONE)
    replayer = Replayer(services.dead_letters, services.documents, services.queue, services.progress)
    letter = await with_dead_letter(shelf, "d3")
    await archiver(services).archive(shelf.collection)
    [entry] = await replayer.find(Selection())
    assert entry.status is DeadLetterStatus.ARCHIVED
    assert not (await replayer.replay(letter, Reason("me", ""))).is_changed
    await archiver(services).restore(shelf.collection)
    assert (await replayer.replay(letter, Reason("me", ""))).is_changed


async def with_dead_letter(shelf: Shelf, id_: str) -> DeadLetter:
    """The letter of a failed document, as the janitor writes it."""
    failed = await shelf.document(id_)
    letter = dead_letters.of_recovered(failed, "group")
    await shelf.services.queue.publish_dead_letter(letter)
    await shelf.services.documents.mark_dead_letter_sent(failed.id, failed.fence)
    return letter


async def test_uses_are_noted_once_a_while(shelf: Shelf) -> None:
    usage, hasty = UsageRecorder(shelf.services.documents), UsageRecorder(shelf.services.documents, every_s=0.0)
    await used(shelf, LONG_AGO)
    await usage.record(shelf.collection)
    assert (noted := await last_use(shelf)) and datetime.now(UTC) - noted < timedelta(minutes=1)
    await used(shelf, LONG_AGO)
    await usage.record(shelf.collection)
    assert await last_use(shelf) == LONG_AGO
    await hasty.record(shelf.collection)
    assert await last_use(shelf) != LONG_AGO
    await hasty.record("unknown")
    assert await shelf.records["collections"].count_documents({}) == 1


def submitter(services: Services, documents: Any) -> Submitter:
    return Submitter(
        records=documents,
        blobs=services.blobs,
        queue=services.queue,
        progress=services.progress,
        sandbox=Sandbox(processes=1, memory_bytes=1 << 30),
        max_pages=10,
        inspect_timeout_s=20,
    )


def upload_of(path: Path) -> Upload:
    content = make_upload(1)
    path.write_bytes(content)
    return Upload(path.name, path, hashlib.sha256(content).hexdigest(), len(content))


def collections_command(tmp_path: Path, *arguments: str) -> Result:
    """`pagemill collections` of the settings in the environment, from a folder in which no stack runs."""
    folder = Path.cwd()
    os.chdir(tmp_path)
    try:
        return CliRunner().invoke(app, ["collections", *arguments])
    finally:
        os.chdir(folder)


async def test_the_commands(shelf: Shelf, tmp_path: Path) -> None:
    async def run(*arguments: str) -> Result:
        return await asyncio.to_thread(collections_command, tmp_path, *arguments)

    async def listed() -> dict[str, Any]:
        [line] = (await run("list", "--json")).stdout.splitlines()
        found: dict[str, Any] = json.loads(line)
        return found

    active = await listed()
    assert (active["state"], active["documents"], active["pages"]) == ("active", {"ready": 2}, 7)
    assert shelf.collection in (await run("list")).stdout
    done = json.loads((await run("archive", shelf.collection, "--json")).stdout)
    assert (done["outcome"], done["documents"], done["pages"]) == ("archived", 2, 7)
    archived = await listed()
    assert (archived["state"], archived["documents"], archived["rows"]) == (
        "archived",
        {"archived": 2},
        active["rows"],
    )
    assert archived["size_bytes"] == done["size_bytes"] > 0
    assert (await run("restore", shelf.collection)).exit_code == 0
    assert {**(await listed()), "last_used_at": None} == {**active, "last_used_at": None}
    assert "use --yes to drop" in (await run("drop", shelf.collection)).stderr
    assert (await run("drop", shelf.collection, "--yes")).exit_code == 0
    assert (await run("list")).stdout == "no collections\n"
    assert (await run("drop", shelf.collection, "--yes")).exit_code == 1
    assert await shelf.services.blobs.list_keys(document_prefix("d1")) == []


class ArchivedMeanwhile:
    """The records, on which the collection is archived just before a document is inserted, or even with it."""

    def __init__(self, shelf: Shelf, is_archived_too: bool) -> None:
        self._shelf = shelf
        self._is_archived_too = is_archived_too

    def __getattr__(self, name: str) -> Any:
        return getattr(self._shelf.services.documents, name)

    async def insert(self, document: Any) -> bool:
        await archiver(self._shelf.services).archive(self._shelf.collection)
        if self._is_archived_too:
            await self._shelf.records["archived"].insert_one({"_id": document.id, "collection": document.collection})
        return await self._shelf.services.documents.insert(document)
