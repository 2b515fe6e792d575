"""The ledger on a real MongoDB-speaking server: claims, leases, fences and states."""

from __future__ import annotations

from typing import Any

import pytest

from ingestion.adapters.mongo.document_store import MongoDocumentStore
from ingestion.errors import Conflict
from tests.port_contracts.ledger import LedgerContract
from tests.port_contracts.recovery import RecoveryContract
from tests.port_contracts.sign_codes import SignCodesContract
from tests.support.documents import S, in_state


@pytest.fixture
def store(document_store: MongoDocumentStore) -> MongoDocumentStore:
    return document_store


class TestMongoLedger(LedgerContract, RecoveryContract, SignCodesContract): ...


async def test_a_delete_during_a_thaw_removes_nothing(
    store: MongoDocumentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = await in_state(store, S.READY)
    await store.freeze(ready.collection, "archive")
    change = store._change

    async def thawed_behind_it(condition: dict[str, Any], changes: dict[str, Any]) -> bool:
        matched = await change(condition, changes)
        await store.thaw(ready.collection, "archive")
        return matched

    monkeypatch.setattr(store, "_change", thawed_behind_it)
    with pytest.raises(Conflict):
        await store.begin_delete("d1")
    assert await store.get("d1") == ready
