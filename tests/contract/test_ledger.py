"""The ledger on a real MongoDB-speaking server: claims, leases, fences and states."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from ingestion.adapters.mongo.document_store import MongoDocumentStore
from ingestion.adapters.mongo.fields import MongoRecord
from ingestion.errors import Conflict
from ingestion.settings import Settings
from tests.port_contracts.cancellations import CancellationsContract
from tests.port_contracts.ledger import LedgerContract
from tests.port_contracts.recovery import RecoveryContract
from tests.port_contracts.sign_codes import SignCodesContract
from tests.port_contracts.terms import TermsContract
from tests.support.documents import S, in_state


@pytest.fixture(params=[True, False], ids=["stand-in", "MongoDB"])
async def store(
    document_store: MongoDocumentStore, settings: Settings, request: pytest.FixtureRequest
) -> AsyncIterator[MongoDocumentStore]:
    """With the requests that are sent to the stand-in of MongoDB, and with those that are sent to MongoDB."""
    own = settings.mongo.model_copy(update={"mongo_stand_in": request.param})
    async with MongoDocumentStore(own) as store:
        yield store


class TestMongoLedger(CancellationsContract, LedgerContract, RecoveryContract, SignCodesContract, TermsContract): ...


async def test_a_delete_during_a_thaw_removes_nothing(
    store: MongoDocumentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = await in_state(store, S.READY)
    await store.freeze(ready.collection, "archive")
    change = store._change_and_read

    async def thawed_behind_it(condition: dict[str, Any], stage: dict[str, Any]) -> MongoRecord | None:
        changed = await change(condition, stage)
        await store.thaw(ready.collection, "archive")
        return changed

    monkeypatch.setattr(store, "_change_and_read", thawed_behind_it)
    with pytest.raises(Conflict):
        await store.begin_delete("d1")
    thawed = await store.get("d1")
    assert thawed is not None
    assert replace(thawed, updated_at=ready.updated_at) == ready, "freezing and thawing are changes"
