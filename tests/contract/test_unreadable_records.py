"""Records of a newer release, damaged and whole records on real stores. A bad record does not affect the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from ingestion.adapters.mongo.document_store import MongoDocumentStore
from ingestion.api.app import create_app
from ingestion.bootstrap import Services
from ingestion.errors import BadRecord, NewerRecord
from ingestion.keys.tokens import new_key
from ingestion.model import DocumentState, Role, StaleKind, document_prefix
from ingestion.search import Searcher
from tests.contract.api.helpers import KEY, client_of
from tests.contract.test_janitor import janitor
from tests.support.documents import LEASE_MS, S, document, page
from tests.support.pipelines import ScriptedEmbedder, job, pipeline, read, submitted
from tests.support.shelf import PAGES, Shelf, objects_of, open_shelf, whole
from workers.consumer.record_runner import RecordRunner

DAMAGE: dict[str, dict[str, Any]] = {
    "newer state": {"$set": {"state": "quarantined", "quarantine": {"until": 3}}},
    "no state": {"$unset": {"state": ""}},
    "no file name": {"$unset": {"filename": ""}},
    "pages are a text": {"$set": {"pages": "four"}},
    "no page keys": {"$unset": {"first_page_key": ""}},
    "times are texts": {"$set": {"updated_at": "yesterday", "lease_until": "tomorrow"}},
    "the error is a text": {"$set": {"error": "broken"}},
}


@pytest.fixture
async def shelf(services: Services, collection: str) -> AsyncIterator[Shelf]:
    async with open_shelf(services, collection) as shelf:
        yield shelf


async def damage(shelf: Shelf, id_: str, change: dict[str, Any]) -> dict[str, Any]:
    """Change the document's record directly in MongoDB. Returns the changed record."""
    await shelf.records["documents"].update_one({"_id": id_}, change)
    record: dict[str, Any] = await shelf.records["documents"].find_one({"_id": id_})
    return record


@pytest.mark.parametrize("change", DAMAGE.values(), ids=DAMAGE.keys())
async def test_an_unreadable_record_is_shown_and_breaks_no_listing_round_or_audit(
    shelf: Shelf, change: dict[str, Any]
) -> None:
    documents, blobs = shelf.services.documents, shelf.services.blobs
    record = await damage(shelf, "d1", change)
    shown = await shelf.document("d1")
    assert shown.state.value == record.get("state", "unreadable")
    assert [found.id for found in await documents.list(shelf.collection)] == ["d1", "d2"]
    assert (await documents.known(["d1", "d2"])).keys() == {"d1", "d2"}
    assert "d2" in await documents.ready_documents(["d1", "d2"])
    await documents.collection_totals()
    for kind in StaleKind:
        await documents.stale(kind, 0.0, 10)
    done = await janitor(shelf.services).round()
    assert done.repaired == {}
    assert done.unreadable == ({} if shown.state.is_known else {shown.state.value: 1})
    await shelf.mismatches(repair=True)
    assert len(await blobs.list_keys(document_prefix("d1"))) == objects_of(PAGES), (
        "nothing of it is taken for an orphan"
    )
    keys = range(2**40)
    rows = await shelf.services.vectors.count_rows(shelf.collection, keys.start, len(keys))
    assert rows == whole(PAGES)[2] + whole(3)[2]
    assert await shelf.records["pages"].count_documents({"document_id": "d1"}) == PAGES
    assert await shelf.records["documents"].find_one({"_id": "d1"}) == record, "left as it is"


async def test_the_api_shows_a_record_of_a_newer_release_as_it_is(shelf: Shelf) -> None:
    await damage(shelf, "d1", DAMAGE["newer state"])
    await damage(shelf, "d2", DAMAGE["pages are a text"])
    async with client_of(_app(shelf)) as client:
        listed = (await client.get("/documents", params={"collection": shelf.collection})).json()["documents"]
        assert [(found["document_id"], found["state"]) for found in listed] == [("d1", "quarantined"), ("d2", "ready")]
        assert listed[1]["error"]["code"] == "bad_record"
        refused = await client.delete("/documents/d1")
        assert (refused.status_code, refused.json()["code"]) == (409, "newer_record")
        refused = await client.delete(f"/collections/{shelf.collection}")
        assert (refused.status_code, refused.json()["code"]) == (409, "newer_record"), "and it does not try for ever"


def _app(shelf: Shelf) -> FastAPI:
    services = shelf.services
    services.settings.api = services.settings.api.model_copy(update={"api_key": SecretStr(KEY)})
    searcher = Searcher(
        embedder=ScriptedEmbedder(),
        vectors=services.vectors,
        records=services.documents,
        blobs=services.blobs,
        settings=services.settings.search,
        cache=services.query_cache,
    )
    return create_app(services, searcher)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (DAMAGE["newer state"], "newer_record"),
        (DAMAGE["no page keys"], "bad_record"),
        ({"$unset": {"fence": ""}}, "bad_record"),
    ],
)
async def test_a_worker_leaves_the_document_alone_and_its_job_is_a_letter_at_last(
    services: Services, shelf: Shelf, tmp_path: Any, change: dict[str, Any], code: str
) -> None:
    fresh = await submitted(services, tmp_path / "a.pdf", 2)
    record = await damage(shelf, fresh.id, change)
    flow = pipeline(services, ScriptedEmbedder())
    records, delivered = RecordRunner(flow.run, services.documents, services.queue, flow.outcomes), job(fresh)
    for _ in range(5):
        await records.run(delivered)
        delivered = delivered.failed_again()
    codes = [letter.failure.code async for letter in services.dead_letters.read()]
    assert set(codes) == {code}
    assert await shelf.records["documents"].find_one({"_id": fresh.id}) == record


async def test_an_unforeseen_error_inside_an_attempt_is_counted_by_the_ledger(
    services: Services, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = await submitted(services, tmp_path / "a.pdf", 2)

    async def bind_collection(*args: object, **kwargs: object) -> None:
        raise KeyError("a field")

    monkeypatch.setattr(services.documents, "bind_collection", bind_collection)
    flow = pipeline(services, ScriptedEmbedder())
    await flow.run(job(fresh))
    postponed = await read(services, fresh)
    assert (postponed.state, postponed.attempts) == (S.QUEUED, 1)
    assert postponed.error is not None
    assert "KeyError" in postponed.error.message


async def test_updates_keep_fields_that_this_release_does_not_know(
    document_store: MongoDocumentStore, settings: Any
) -> None:
    await document_store.insert(document())
    extra = {"priority": {"level": 3}}
    await document_store._documents.update_one({"_id": "d1"}, {"$set": extra})
    await document_store.put_pages([page(7)])
    await document_store._pages.update_one({"_id": 7}, {"$set": {**extra, "next": {"generation": 2, "rows": 1}}})
    claimed = await document_store.claim("d1", "w", LEASE_MS)
    await document_store.put_pages([page(7, text="new")])
    await document_store.finish(claimed)
    record = await document_store._documents.find_one({"_id": "d1"})
    assert record is not None
    assert (record["priority"], record["state"]) == (extra["priority"], DocumentState.READY)
    stored = await document_store._pages.find_one({"_id": 7})
    assert stored is not None
    assert (stored["priority"], stored["text"], "next" in stored) == (extra["priority"], "new", False)


async def test_collections_that_cannot_be_read_or_are_newer_are_left_out_or_refused(
    document_store: MongoDocumentStore,
) -> None:
    for name in ("bad", "good", "newer"):
        await document_store.bind_collection(name, "e", 4)
    await document_store._collections.update_one({"_id": "bad"}, {"$unset": {"embedder": ""}})
    await document_store._collections.update_one({"_id": "newer"}, {"$set": {"state": "migrating"}})
    found = {record.name: record.state.value for record in await document_store.collection_records()}
    assert found == {"good": "active", "newer": "migrating"}
    with pytest.raises(NewerRecord, match="migrating"):
        await document_store.require_active("newer")
    with pytest.raises(BadRecord, match="embedder"):
        await document_store.collection("bad")
    with pytest.raises(BadRecord, match="embedder"):
        await document_store.binding("bad")


async def test_a_move_keeps_what_a_newer_release_says_of_the_archive(document_store: MongoDocumentStore) -> None:
    await document_store.bind_collection("c", "e", 4)
    await document_store.hold_collection("c", "token", LEASE_MS)
    await document_store.begin_archive("c", "token", "a")
    await document_store._collections.update_one({"_id": "c"}, {"$set": {"archive.tier": "cold"}})
    record = await document_store.collection("c")
    assert record is not None
    await document_store.move_collection("c", "token", record.state, record.archive)
    stored = await document_store._collections.find_one({"_id": "c"})
    assert stored is not None
    assert (stored["archive"]["tier"], stored["archive"]["id"]) == ("cold", "a")


@pytest.mark.parametrize(
    "change",
    [{"role": "owner"}, {"tenant": 7}, {"secret_sha256": None}, {"revoked_at": "yesterday"}, {"expires_at": 2**40}],
    ids=["role", "tenant", "no secret", "revoked", "expires"],
)
async def test_a_damaged_key_is_not_valid_and_hides_no_other(shelf: Shelf, change: dict[str, Any]) -> None:
    api, documents = _app(shelf), shelf.services.documents
    (damaged, sent), (whole_key, whole_sent) = new_key("acme", Role.ADMIN), new_key("acme", Role.ADMIN)
    await documents.insert_key(damaged)
    await documents.insert_key(whole_key)
    await shelf.records["keys"].update_one({"_id": damaged.id}, {"$set": change})
    by_id = {key.id: key for key in await documents.api_keys()}
    assert by_id[damaged.id].state_at(datetime.now(UTC)) == "damaged"
    assert by_id[whole_key.id].damage == ""
    async with client_of(api, sent) as refused, client_of(api, whole_sent) as admin:
        answers = await asyncio.gather(refused.get("/keys"), admin.get("/keys"))
        assert [one.status_code for one in answers] == [401, 200], [one.text for one in answers]
        assert (await admin.delete(f"/keys/{damaged.id}")).status_code == (404 if "tenant" in change else 204)
