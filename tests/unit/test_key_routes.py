"""Keys over HTTP: who may see, make and revoke them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from ingestion.api import keys
from ingestion.client.answers import ApiError
from ingestion.client.client import ApiClient
from ingestion.client.target import Target
from ingestion.keys.tokens import new_key
from ingestion.model import Role
from tests.contract.api.helpers import assert_problem
from tests.support.memory_api import KEY, MemoryApi, memory_api


@dataclass
class Keys:
    api: MemoryApi
    operator: httpx.AsyncClient
    admin: httpx.AsyncClient
    writer: httpx.AsyncClient
    other: httpx.AsyncClient


@pytest.fixture
async def clients() -> AsyncIterator[Keys]:
    api = memory_api()
    async with AsyncExitStack() as stack:
        found = [await stack.enter_async_context(api.client())]
        for tenant, role in (("acme", Role.ADMIN), ("acme", Role.WRITE), ("other", Role.ADMIN)):
            key, text = new_key(tenant, role)
            await api.services.documents.insert_key(key)
            found.append(await stack.enter_async_context(api.client(text)))
        yield Keys(api, *found)


async def tenants_of(client: httpx.AsyncClient, **parameters: str) -> set[str]:
    answer = await client.get("/keys", params=parameters)
    assert answer.status_code == 200, answer.text
    return {one["tenant"] for one in answer.json()["keys"]}


async def test_an_administrator_sees_the_keys_of_its_tenant(clients: Keys) -> None:
    assert await tenants_of(clients.admin) == {"acme"}
    assert await tenants_of(clients.operator) == {"acme", "other"}
    assert await tenants_of(clients.operator, tenant="other") == {"other"}
    assert_problem(await clients.admin.get("/keys", params={"tenant": "other"}), 403, "forbidden")
    assert_problem(await clients.operator.get("/keys", params={"tenant": "no.tenant"}), 400, "bad_request")
    listed = (await clients.admin.get("/keys")).text
    assert "secret" not in listed and "api_key" not in listed


async def test_a_writer_manages_no_keys(clients: Keys) -> None:
    for answer in (
        await clients.writer.get("/keys"),
        await clients.writer.post("/keys", json={}),
        await clients.writer.delete("/keys/x"),
    ):
        assert "'admin'" in assert_problem(answer, 403, "forbidden")["detail"]


async def test_a_new_key_works_until_it_is_revoked(clients: Keys) -> None:
    expires_at = datetime.now(UTC) + timedelta(days=1)
    wanted = {"role": "read", "name": "chat", "expires_at": expires_at.isoformat()}
    made = await clients.admin.post("/keys", json=wanted)
    assert made.status_code == 201, made.text
    key = made.json()
    assert (key["tenant"], key["role"], key["name"], key["state"]) == ("acme", "read", "chat", "active")
    assert key["api_key"] not in (await clients.admin.get("/keys")).text
    async with clients.api.client(key["api_key"]) as chat:
        assert (await chat.get("/documents")).status_code == 200
    assert_problem(await clients.other.delete(f"/keys/{key['key']}"), 404, "not_found")
    for _ in range(2):
        assert (await clients.admin.delete(f"/keys/{key['key']}")).status_code == 204
    by_id = {one["key"]: one for one in (await clients.admin.get("/keys")).json()["keys"]}
    assert by_id[key["key"]]["state"] == "revoked"


async def test_the_key_of_the_settings_makes_keys_of_each_tenant(clients: Keys) -> None:
    made = await clients.operator.post("/keys", json={"tenant": "new", "role": "admin"})
    assert made.json()["tenant"] == "new"
    assert_problem(await clients.admin.post("/keys", json={"tenant": "other"}), 403, "forbidden")
    assert (await clients.operator.delete(f"/keys/{made.json()['key']}")).status_code == 204


@pytest.mark.parametrize("at", ["2020-01-01T00:00:00Z", "9999-12-31T23:59:59-12:00"])
async def test_a_time_that_no_key_can_expire_at_is_refused(clients: Keys, at: str) -> None:
    assert_problem(await clients.admin.post("/keys", json={"expires_at": at}), 400, "bad_request")


async def test_a_tenant_has_a_limited_number_of_valid_keys(clients: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "_MOST_ACTIVE", 3)
    assert (await clients.admin.post("/keys", json={})).status_code == 201
    answer = await clients.admin.post("/keys", json={})
    assert "3 active keys" in assert_problem(answer, 409, "conflict")["detail"]


async def test_a_damaged_key_is_listed_and_is_not_valid(clients: Keys) -> None:
    key, text = new_key("acme", Role.ADMIN)
    await clients.api.services.documents.insert_key(replace(key, damage="role is 'owner'"))
    by_id = {one["key"]: one for one in (await clients.admin.get("/keys")).json()["keys"]}
    assert (by_id[key.id]["state"], by_id[key.id]["role"]) == ("damaged", None)
    async with clients.api.client(text) as damaged:
        assert "damaged" in assert_problem(await damaged.get("/documents"), 401, "unauthorized")["detail"]


async def test_the_python_client_manages_keys_and_reads_the_system(clients: Keys) -> None:
    transport = httpx.ASGITransport(clients.api.app)
    headers = {"Authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://api/api/v1/", headers=headers) as http:
        client = ApiClient(Target("http://api", KEY, "", is_local=True), http)
        made = await client.create_key(Role.WRITE, name="nightly", tenant="acme")
        assert made.api_key.startswith("pm_")
        assert made.api_key not in repr(made)
        assert made.key in {one.key for one in await client.keys("acme")}
        await client.revoke_key(made.key)
        assert {one.state for one in await client.keys("acme") if one.key == made.key} == {"revoked"}
        assert (await client.system()).scope == "installation"
        assert [one async for one in client.dead_letters()] == []
        with pytest.raises(ApiError) as caught:
            await client.replay_dead_letter("none")
        assert caught.value.code == "not_found"
