"""What every implementation of the port ApiKeys keeps."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ingestion.bootstrap import DocumentStore
from ingestion.errors import Conflict, NotFound
from ingestion.model import ApiKey, Role

EXPIRES_AT = datetime(2100, 1, 1, tzinfo=UTC)


class ApiKeysContract:
    async def test_a_key_is_found_by_its_id(self, store: DocumentStore) -> None:
        await store.insert_key(ApiKey("k1", "acme", Role.READ, "00ff", name="a $name", expires_at=EXPIRES_AT))
        found = await store.api_key("k1")
        assert found is not None
        assert (found.tenant, found.role, found.secret_sha256) == ("acme", Role.READ, "00ff")
        assert (found.name, found.expires_at, found.revoked_at, found.last_used_at) == (
            "a $name",
            EXPIRES_AT,
            None,
            None,
        )
        assert found.created_at is not None
        assert await store.api_key("k2") is None
        with pytest.raises(Conflict):
            await store.insert_key(found)

    async def test_keys_are_listed_by_tenant(self, store: DocumentStore) -> None:
        for key_id, tenant in (("k2", "acme"), ("k1", "acme"), ("k3", "other")):
            await store.insert_key(ApiKey(key_id, tenant, Role.WRITE, ""))
        assert [key.id for key in await store.api_keys()] == ["k1", "k2", "k3"]
        assert [key.id for key in await store.api_keys("acme")] == ["k1", "k2"]
        assert list(await store.api_keys("nobody")) == []

    async def test_a_revocation_is_for_good_and_of_the_own_tenant(self, store: DocumentStore) -> None:
        await store.insert_key(ApiKey("k1", "acme", Role.WRITE, ""))
        with pytest.raises(NotFound):
            await store.revoke_key("k1", tenant="other")
        with pytest.raises(NotFound):
            await store.revoke_key("k2")
        revoked = await store.revoke_key("k1", tenant="acme")
        assert revoked.revoked_at is not None
        assert (await store.revoke_key("k1")).revoked_at == revoked.revoked_at
        assert await store.api_key("k1") == revoked

    async def test_the_last_use_is_recorded(self, store: DocumentStore) -> None:
        await store.insert_key(ApiKey("k1", "acme", Role.WRITE, ""))
        await store.touch_key("k1")
        await store.touch_key("unknown")
        found = await store.api_key("k1")
        assert found is not None
        assert found.last_used_at is not None
        assert await store.api_key("unknown") is None
