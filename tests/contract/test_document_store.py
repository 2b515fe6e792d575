"""The records of documents, pages and collections, on a real MongoDB-speaking server."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from motor.motor_asyncio import AsyncIOMotorClient

from ingestion.adapters.mongo.document_store import MongoDocumentStore
from ingestion.catalogue.generations import Binding
from ingestion.errors import BadRequest, DependencyUnavailable, EmbedderMismatch, WorkerFault
from ingestion.settings import MongoSettings, Settings
from tests.support.documents import FAILURE, LEASE_MS, S, document, in_state, page


@pytest.fixture
def store(document_store: MongoDocumentStore) -> MongoDocumentStore:
    return document_store


async def test_an_inserted_document_comes_back_equal(store: MongoDocumentStore) -> None:
    before = datetime.now(UTC)
    assert await store.insert(replace(document(), state=S.READY, outbox="sent"))
    found = await store.get("d1")
    assert found is not None
    assert found == replace(document(), created_at=found.created_at, updated_at=found.updated_at)
    assert found.created_at is not None
    assert abs(found.created_at - before) < timedelta(minutes=1)


async def test_records_have_the_fields_that_were_agreed_upon(store: MongoDocumentStore, settings: Settings) -> None:
    await in_state(store, S.FAILED)
    await store.put_pages([page(1)])
    client: AsyncIOMotorClient[dict[str, object]] = AsyncIOMotorClient(settings.mongo.mongo_uri)
    database = client[settings.mongo.mongo_database]
    [found] = await database["documents"].find().to_list(None)
    [stored_page] = await database["pages"].find().to_list(None)
    client.close()
    assert set(found) == {
        *("_id", "collection", "filename", "object_key", "sha256", "size_bytes", "state", "stage", "pages"),
        *("pages_done", "first_page_key", "dpi", "attempts", "fence", "owner", "lease_until", "outbox", "error"),
        *("claim", "letter", "outages", "story", "created_at", "updated_at", "ready_at"),
        *("generation", "next_generation", "next_pages_done"),
    }
    assert found["error"] == {"code": FAILURE.code, "stage": FAILURE.stage, "message": FAILURE.message}
    assert set(stored_page) == {
        *("_id", "document_id", "page_number", "width_px", "height_px", "patches", "rows", "image_key", "text")
    }


async def test_a_field_of_a_newer_version_does_no_harm(store: MongoDocumentStore, settings: Settings) -> None:
    await store.insert(document())
    client: AsyncIOMotorClient[dict[str, object]] = AsyncIOMotorClient(settings.mongo.mongo_uri)
    await client[settings.mongo.mongo_database]["documents"].update_one({"_id": "d1"}, {"$set": {"newer": 1}})
    client.close()
    assert (await store.claim("d1", "w", LEASE_MS)).id == "d1"


async def test_a_second_insert_changes_nothing(store: MongoDocumentStore) -> None:
    await store.insert(document())
    claimed = await store.claim("d1", "w", LEASE_MS)
    assert not await store.insert(replace(document(), filename="other.pdf"))
    assert await store.get("d1") == claimed


async def test_one_of_many_equal_inserts_is_the_first(store: MongoDocumentStore) -> None:
    assert sorted(await asyncio.gather(*(store.insert(document()) for _ in range(10)))) == [False] * 9 + [True]


async def test_an_unknown_document_is_none(store: MongoDocumentStore) -> None:
    assert await store.get("unknown") is None


async def test_listing_goes_page_by_page_in_the_order_of_ids(store: MongoDocumentStore) -> None:
    for number in (4, 1, 3, 0, 2):
        await store.insert(document(f"d{number}"))
    await store.insert(document("d9", collection="other"))
    first = await store.list("c", limit=3)
    rest = await store.list("c", limit=3, after=first[-1].id)
    assert [found.id for found in first] == ["d0", "d1", "d2"]
    assert [found.id for found in rest] == ["d3", "d4"]
    assert [found.id for found in await store.list(after="d4")] == ["d9"]
    assert await store.list("unknown") == []


async def test_only_ready_documents_are_ready(store: MongoDocumentStore) -> None:
    for state in (S.RECEIVED, S.QUEUED, S.PROCESSING, S.READY, S.FAILED, S.DELETING):
        await in_state(store, state, state.value)
    ready = await store.ready_documents([state.value for state in S] + ["unknown"])
    assert {document_id: found.state for document_id, found in ready.items()} == {"ready": S.READY}


async def test_page_keys_are_reserved_once(store: MongoDocumentStore) -> None:
    assert await store.reserve_page_keys(3) == 1
    firsts = await asyncio.gather(*(store.reserve_page_keys(5) for _ in range(40)))
    assert sorted(firsts) == list(range(4, 4 + 5 * 40, 5))


async def test_preparing_again_keeps_the_page_keys(store: MongoDocumentStore) -> None:
    await store.reserve_page_keys(10)
    await asyncio.gather(store.prepare(), store.prepare())
    assert await store.reserve_page_keys(1) == 11


async def test_page_keys_need_a_prepared_database(settings: Settings) -> None:
    async with MongoDocumentStore(settings.mongo) as store:
        with pytest.raises(WorkerFault, match="not been prepared"):
            await store.reserve_page_keys(1)


async def test_a_collection_keeps_its_first_embedder(store: MongoDocumentStore) -> None:
    assert await store.collection_fingerprint("c") is None
    await store.bind_collection("c", "minilm", 384)
    await store.bind_collection("c", "minilm", 384)
    for other in (("colqwen", 384), ("minilm", 128)):
        with pytest.raises(EmbedderMismatch, match="minilm"):
            await store.bind_collection("c", *other)
    assert await store.collection_fingerprint("c") == "minilm"
    await store.hold_collection("c", "token", lease_ms=60_000)
    await store.forget_collection("c", "token")
    await store.bind_collection("c", "colqwen", 128)
    assert await store.collection_fingerprint("c") == "colqwen"


async def test_of_two_embedders_at_once_one_is_refused(store: MongoDocumentStore) -> None:
    names = ["one", "two"] * 5
    results = await asyncio.gather(*(store.bind_collection("c", name, 8) for name in names), return_exceptions=True)
    winner = await store.collection_fingerprint("c")
    refused = {name for name, result in zip(names, results, strict=True) if isinstance(result, EmbedderMismatch)}
    assert refused == {"one", "two"} - {winner}
    assert sum(isinstance(result, Binding) for result in results) == 5


async def test_pages_are_replaced_by_key(store: MongoDocumentStore) -> None:
    await store.put_pages([])
    await store.put_pages([page(1, text="old"), page(2)])
    await store.put_pages([page(1, text="new\0 ü"), page(3)])
    found = await store.pages_by_key([1, 2, 4], with_text=True)
    assert found == {1: page(1, text="new\0 ü"), 2: page(2)}
    assert await store.pages_by_key([1]) == {1: page(1, text="")}


async def test_pages_are_removed_by_key(store: MongoDocumentStore) -> None:
    await store.put_pages([page(key) for key in range(1, 6)])
    await store.remove_pages(2, 3)
    assert sorted(await store.pages_by_key(range(10))) == [1, 5]


async def test_text_that_no_record_can_hold_is_refused(store: MongoDocumentStore) -> None:
    with pytest.raises(BadRequest):
        await store.put_pages([page(1, text="half a character: \ud800")])


async def test_ping_answers(store: MongoDocumentStore) -> None:
    await store.ping()


async def test_a_server_that_is_not_there_is_unavailable(unused_tcp_port: int) -> None:
    settings = MongoSettings(mongo_uri=f"mongodb://127.0.0.1:{unused_tcp_port}/?directConnection=true")
    async with MongoDocumentStore(settings) as store:
        with pytest.raises(DependencyUnavailable) as caught:
            await store.get("d1")
    assert caught.value.dependency == "mongodb"


async def test_uploads_that_arrive_together_share_requests(
    store: MongoDocumentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: Counter[str] = Counter()

    def counted(batches: Any, name: str) -> None:
        run = batches._run

        async def call(items: Any) -> Any:
            calls[name] += 1
            return await run(items)

        monkeypatch.setattr(batches, "_run", call)

    for name in ("_inserts", "_reservations", "_reads", "_queued", "_checks"):
        counted(getattr(store, name), name)

    async def arrive(number: int) -> tuple[int, int]:
        await store.require_active("together")
        assert await store.get(f"together-{number}") is None
        first_page_key = await store.reserve_page_keys(number + 1)
        one = replace(document(f"together-{number}"), pages=number + 1, first_page_key=first_page_key)
        assert await store.insert(one)
        assert not await store.insert(one)
        await store.mark_queued(one)
        return first_page_key, number + 1

    ranges = sorted(await asyncio.gather(*(arrive(number) for number in range(40))))
    assert all(first + pages <= other for (first, pages), (other, _) in pairwise(ranges))
    assert calls.total() < 40, "of 240"
    for number in range(40):
        found = await store.get(f"together-{number}")
        assert found is not None
        assert (found.state, found.outbox) == (S.QUEUED, "sent")
