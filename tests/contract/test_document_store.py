"""The records of documents, pages and collections, on a real MongoDB-speaking server."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from motor.motor_asyncio import AsyncIOMotorClient

from ingestion.adapters.mongo.document_mapping import record_of
from ingestion.adapters.mongo.document_store import MongoDocumentStore
from ingestion.adapters.mongo.indexes import INDEXES
from ingestion.errors import DependencyUnavailable, WorkerFault
from ingestion.filters import Filter
from ingestion.model import Document
from ingestion.settings import MongoSettings, Settings
from tests.port_contracts.api_keys import ApiKeysContract
from tests.port_contracts.counts import DocumentCountsContract
from tests.port_contracts.dead_letter_notes import DeadLetterNotesContract
from tests.port_contracts.documents import RecordsContract
from tests.port_contracts.feed import DocumentFeedContract
from tests.port_contracts.flows import FlowsContract
from tests.port_contracts.labels import LabelsContract, RevisionsContract, check_filter
from tests.port_contracts.ready_pages import ReadyPagesContract
from tests.port_contracts.tenant_usage import TenantUsageContract
from tests.port_contracts.webhooks import DocumentEventsContract, WebhooksContract
from tests.port_contracts.work_records import WorkRecordsContract
from tests.support.documents import FAILURE, LEASE_MS, S, document, in_state, page
from tests.support.filters import filters, labelled_documents
from tests.support.mongo_requests import RequestRecorder


@pytest.fixture
def store(document_store: MongoDocumentStore) -> MongoDocumentStore:
    return document_store


class TestMongoRecords(
    ApiKeysContract,
    DocumentCountsContract,
    DocumentFeedContract,
    LabelsContract,
    ReadyPagesContract,
    RecordsContract,
    RevisionsContract,
    TenantUsageContract,
    FlowsContract,
    WorkRecordsContract,
    DocumentEventsContract,
    WebhooksContract,
    DeadLetterNotesContract,
): ...


# One test of 60 examples: the server has fixed costs for each.
@hypothesis_settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(documents=labelled_documents(), wanted=st.lists(filters, min_size=4, max_size=8))
async def test_a_filter_selects_what_it_selects_in_memory(
    store: MongoDocumentStore, documents: list[Document], wanted: list[Filter]
) -> None:
    await store._documents.delete_many({"collection": "c"})
    await store._documents.insert_many([record_of(one) for one in documents])
    known = await store.known([one.id for one in documents])
    for one in wanted:
        await check_filter(store, one, known)


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
        *("claim", "letter", "outages", "story", "created_at", "requeued_at", "updated_at", "ready_at"),
        *("generation", "next_generation", "next_pages_done", "codes_format", "media_type", "text_pages"),
        *("notes", "terms_format", "priority", "delivery", "events", "events_at"),
        *("request_id", "traceparent"),
        *("metadata", "tags", "key", "revision", "replaced_by", "duplicate_of"),
    }
    assert found["error"] == {"code": FAILURE.code, "stage": FAILURE.stage, "message": FAILURE.message}
    assert set(stored_page) == {
        *("_id", "document_id", "page_number", "width_px", "height_px", "patches", "rows", "image_key", "text"),
        *("text_source", "words"),
    }


async def test_a_field_of_a_newer_version_does_no_harm(store: MongoDocumentStore, settings: Settings) -> None:
    await store.insert(document())
    client: AsyncIOMotorClient[dict[str, object]] = AsyncIOMotorClient(settings.mongo.mongo_uri)
    await client[settings.mongo.mongo_database]["documents"].update_one({"_id": "d1"}, {"$set": {"newer": 1}})
    client.close()
    assert (await store.claim("d1", "w", LEASE_MS)).id == "d1"


async def test_preparing_again_keeps_the_page_keys(store: MongoDocumentStore) -> None:
    await store.reserve_page_keys(10)
    await asyncio.gather(store.prepare(), store.prepare())
    assert await store.reserve_page_keys(1) == 11


async def test_page_keys_need_a_prepared_database(settings: Settings) -> None:
    async with MongoDocumentStore(settings.mongo) as store:
        with pytest.raises(WorkerFault, match="not been prepared"):
            await store.reserve_page_keys(1)


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

    for name in ("_inserts", "_reservations", "_reads", "_contents", "_queued", "_checks"):
        counted(getattr(store, name), name)

    async def arrive(number: int) -> tuple[int, int]:
        await store.require_active("together")
        assert await store.get(f"together-{number}") is None
        assert await store.with_content("together", f"{number:064x}") is None
        first_page_key = await store.reserve_page_keys(number + 1)
        one = replace(document(f"together-{number}"), pages=number + 1, first_page_key=first_page_key)
        assert await store.insert(one)
        assert not await store.insert(one)
        await store.mark_queued(one)
        return first_page_key, number + 1

    ranges = sorted(await asyncio.gather(*(arrive(number) for number in range(40))))
    assert all(first + pages <= other for (first, pages), (other, _) in pairwise(ranges))
    assert calls.total() < 40, "of 280"
    for number in range(40):
        found = await store.get(f"together-{number}")
        assert found is not None
        assert (found.state, found.outbox) == (S.QUEUED, "sent")


async def test_a_late_record_of_an_earlier_upload_marks_no_other_job(store: MongoDocumentStore) -> None:
    again, other = (replace(document(f"late-{key}"), first_page_key=key) for key in (70, 80))
    for one in (again, other):
        await store.insert(one)
    await asyncio.gather(store.mark_queued(replace(again, first_page_key=60)), store.mark_queued(other))
    assert [(await store.known([one.id]))[one.id].outbox for one in (again, other)] == ["pending", "sent"]


async def test_contents_of_several_collections_are_looked_for_with_one_command(
    store: MongoDocumentStore, mongo_requests: RequestRecorder
) -> None:
    for name in ("a", "b"):
        await store.insert(replace(document(f"twin-{name}", collection=name), sha256=name * 64))
    mongo_requests.commands.clear()
    asked = [("a", "a"), ("a", "b"), ("b", "a"), ("b", "b")]
    found = await asyncio.gather(*(store.with_content(name, content * 64) for name, content in asked))
    assert [one and one.id for one in found] == ["twin-a", None, None, "twin-b"]
    assert mongo_requests.commands == ["find documents"]
    assert "sha256" in {keys[0][0] for keys in INDEXES["documents"]}, "a list of values bounds the first field only"


async def test_counts_of_a_tenant_that_are_wanted_together_share_commands(
    store: MongoDocumentStore, mongo_requests: RequestRecorder
) -> None:
    await store.insert(document("counted", collection="acme.c"))
    mongo_requests.commands.clear()
    found = await asyncio.gather(*(store.tenant_contents(tenant) for tenant in ("acme", "other") * 10))
    assert [one.documents_in_flight for one in found] == [1, 0] * 10
    assert mongo_requests.commands == ["aggregate documents"] * 2
