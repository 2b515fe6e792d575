"""Every request that the document store can send, against the definitions of the indexes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import pytest

from ingestion.adapters.mongo.document_store import MongoDocumentStore
from ingestion.adapters.mongo.indexes import INDEXES
from ingestion.catalogue.generations import PageSize
from ingestion.catalogue.states import CollectionRecord, CollectionState
from ingestion.errors import IngestError
from ingestion.filters import parse_filter
from ingestion.model import (
    ApiKey,
    EventType,
    Flow,
    LetterMark,
    Priority,
    Role,
    StaleKind,
    Webhook,
    WebhookDelivery,
    WebhookDeliveryState,
)
from ingestion.ports import PendingEvents
from ingestion.settings import Settings
from tests.support.documents import FAILURE, document, page
from tests.support.mongo_requests import SMALL, RequestRecorder, unindexed

WITHOUT_RECORDS: Final = {"prepare"}
"""Methods that look for no record."""
SAMPLES: Final[dict[str, Any]] = {
    **dict.fromkeys(("collection", "after", "document_id", "owner", "fingerprint", "closing", "stage"), "x"),
    **dict.fromkeys(("token", "archive_id", "name"), "x"),
    **dict.fromkeys(("fence", "limit", "dim", "generation", "current", "pages_done", "dpi", "count", "page_key"), 1),
    **dict.fromkeys(("lease_ms", "delay_ms", "rest_ms", "first_page_key", "step_version"), 1),
    **dict.fromkeys(("codes_format", "terms_format"), 1),
    "since_ms": 1,
    "with_words": True,
    **dict.fromkeys(("document_ids", "letter_ids", "collections", "retired"), ("x",)),
    **dict.fromkeys(("tenant", "key_id", "day"), "x"),
    "key": ApiKey("x", "x", Role.READ, ""),
    "age_s": 1.0,
    "minutes": 1,
    **dict.fromkeys(("webhook_id", "delivery_id"), "x"),
    "webhook": Webhook("x", "x", "https://x", "x"),
    "deliveries": [WebhookDelivery("x", "x", "x", EventType.READY, "{}")],
    "pending": [PendingEvents((), source, {"_id": "x"}) for source in ("documents", "removed")],
    **dict.fromkeys(("lease_s", "again_in_s"), 1.0),
    "error": "x",
    "before": datetime(2026, 1, 1, tzinfo=UTC),
    "outage": True,
    "sha256": "x",
    "revision": 1,
    "size_bytes": 1,
    **dict.fromkeys(("with_text", "with_words"), True),
    "failure": FAILURE,
    **dict.fromkeys(("document", "cancelled"), replace(document("x"), next_generation=2)),
    "kind": StaleKind.LOST,
    "mark": LetterMark("x", "replayed", "by", "why"),
    "state": CollectionState.ACTIVE,
    "archive": None,
    "text_pages": None,
    "notes": (),
    "page_keys": range(1, 3),
    "sizes": [PageSize(1, 1, 1)],
    "pages": [page(1)],
    "where": parse_filter('team = "legal" and tags has "draft"'),
    "known": replace(document("x"), metadata={"team": "legal"}, tags=("draft",), key="x", revision=1),
    "metadata": {"team": "legal"},
    "tags": ("draft",),
    "keys": ("x",),
    "flow": Flow(Priority.BULK, "x"),
    **dict.fromkeys(("mark", "delivery"), "x"),
    "without_collections": ("x",),
}
"""A value for each parameter of a method."""
OTHER_TYPES: Final[dict[str, dict[str, Any]]] = {
    "claim_delivery": {"delivery": WebhookDelivery("x", "x", "x", EventType.READY, "{}")},
    "settle_delivery": {
        "delivery": WebhookDelivery("x", "x", "x", EventType.READY, "{}"),
        "state": WebhookDeliveryState.DEAD,
    },
    "deliveries": {"state": WebhookDeliveryState.DEAD},
    "by_page_key": {"after": 1},
    "filterable_documents": {"after": 1},
    "pack_documents": {"after": 1},
    "pack_ready_documents": {"after": 1},
    "receive_collection": {"record": CollectionRecord("x", "e", 2, 1, CollectionState.RECEIVING, None, None)},
    "unpack_documents": {"documents": ['{"_id": "x", "state": "ready"}']},
    "unpack_pages": {"pages": ['{"_id": 1}']},
}


def arguments(name: str, method: Any) -> Iterator[dict[str, Any]]:
    """With all parameters, and with only those that have no default."""
    parameters = {one: given for one, given in inspect.signature(method).parameters.items() if one != "self"}
    values = SAMPLES | OTHER_TYPES.get(name, {})
    for with_optional in (True, False):
        wanted = [one for one, given in parameters.items() if with_optional or given.default is given.empty]
        yield {one: values[one] for one in wanted}


METHODS: Final = [
    name
    for name, _ in inspect.getmembers(MongoDocumentStore, inspect.iscoroutinefunction)
    if not name.startswith("_") and name not in WITHOUT_RECORDS
]


@pytest.mark.parametrize("is_stand_in", [True, False], ids=["stand-in", "MongoDB"])
async def test_each_request_uses_an_index(
    settings: Settings, mongo_requests: RequestRecorder, is_stand_in: bool
) -> None:
    async with MongoDocumentStore(settings.mongo.model_copy(update={"mongo_stand_in": is_stand_in})) as store:
        await store.prepare()
        for name in METHODS:
            method = getattr(store, name)
            for given in arguments(name, method):
                mongo_requests.requests.clear()
                with suppress(IngestError):
                    await method(**given)
                assert unindexed(mongo_requests.requests) == [], name


async def test_each_document_and_collection_is_made_with_the_indexes(document_store: MongoDocumentStore) -> None:
    for name, indexes in INDEXES.items():
        made = await getattr(document_store, f"_{name}").index_information()
        assert sorted(tuple(one["key"]) for one in made.values()) == sorted([(("_id", 1),), *indexes])
    assert not INDEXES.keys() & SMALL.keys()


async def test_the_stand_in_alone_gets_two_requests_for_a_change_that_is_read(
    document_store: MongoDocumentStore, settings: Settings, mongo_requests: RequestRecorder
) -> None:
    async with MongoDocumentStore(settings.mongo.model_copy(update={"mongo_stand_in": False})) as store:
        await store.insert(document())
        mongo_requests.requests.clear()
        claimed = await store.claim("d1", "w", 60_000)
        await store.postpone("d1", claimed.fence, FAILURE, 1)
        assert {one.command for one in mongo_requests.requests} == {"findAndModify"}
