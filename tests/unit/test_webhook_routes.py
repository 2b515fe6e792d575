"""Webhooks over HTTP: subscriptions and deliveries of a tenant."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import httpx
import pytest

from ingestion.client.client import ApiClient
from ingestion.client.target import Target
from ingestion.keys.tokens import new_key
from ingestion.model import Role, WebhookDeliveryState
from tests.contract.api.helpers import assert_problem
from tests.support.memory_api import MemoryApi, memory_api

URL = "https://hooks.acme.example/pagemill"


@dataclass
class Hooks:
    api: MemoryApi
    admin: httpx.AsyncClient
    writer: httpx.AsyncClient
    other: httpx.AsyncClient

    async def made(self, **fields: object) -> dict[str, str]:
        answer = await self.admin.post("/webhooks", json={"url": URL, **fields})
        assert answer.status_code == 201, answer.text
        body: dict[str, str] = answer.json()
        return body


@pytest.fixture
async def hooks() -> AsyncIterator[Hooks]:
    api = memory_api()
    async with AsyncExitStack() as stack:
        clients = []
        for tenant, role in (("acme", Role.ADMIN), ("acme", Role.WRITE), ("other", Role.ADMIN)):
            key, text = new_key(tenant, role)
            await api.services.documents.insert_key(key)
            clients.append(await stack.enter_async_context(api.client(text)))
        yield Hooks(api, *clients)


async def test_the_secret_of_a_webhook_is_shown_once(hooks: Hooks) -> None:
    made = await hooks.made(collection="manuals")
    assert made["secret"].startswith("whsec_")
    assert (made["collection"], len(made["events"])) == ("manuals", 4)
    for path in ("/webhooks", f"/webhooks/{made['webhook']}"):
        answer = await hooks.admin.get(path)
        assert answer.status_code == 200
        assert "whsec_" not in answer.text and made["secret"] not in answer.text
    stored = await hooks.api.services.documents.webhook(made["webhook"])
    assert stored is not None
    assert stored.collection == "acme.manuals"
    assert stored.secret not in repr(stored)


async def test_a_webhook_is_for_administrators_of_its_tenant(hooks: Hooks) -> None:
    id_ = (await hooks.made())["webhook"]
    for method, path in (
        ("GET", "/webhooks"),
        ("POST", "/webhooks"),
        ("GET", f"/webhooks/{id_}"),
        ("DELETE", f"/webhooks/{id_}"),
        ("POST", f"/webhooks/{id_}/ping"),
        ("GET", f"/webhooks/{id_}/deliveries"),
        ("POST", f"/webhooks/{id_}/deliveries/x/replay"),
    ):
        refused = await hooks.writer.request(method, path, json={"url": URL})
        assert_problem(refused, 403, "forbidden")
        if id_ in path:
            assert_problem(await hooks.other.request(method, path, json={"url": URL}), 404, "not_found")
    assert (await hooks.other.get("/webhooks")).json() == {"webhooks": []}
    assert (await hooks.admin.delete(f"/webhooks/{id_}")).status_code == 204
    assert_problem(await hooks.admin.delete(f"/webhooks/{id_}"), 404, "not_found")


@pytest.mark.parametrize("url", ["http://hooks.example/", "https://127.0.0.1/", "https://user@hooks.example/", "x"])
async def test_an_address_that_webhooks_may_not_reach_is_refused(hooks: Hooks, url: str) -> None:
    assert_problem(await hooks.admin.post("/webhooks", json={"url": url}), 400, "bad_request")


async def test_unknown_events_and_more_webhooks_than_allowed_are_refused(hooks: Hooks) -> None:
    for events in ([], ["ping"], ["document.born"]):
        assert_problem(await hooks.admin.post("/webhooks", json={"url": URL, "events": events}), 422, "bad_request")
    settings = hooks.api.services.settings
    settings.webhooks = settings.webhooks.model_copy(update={"webhooks_per_tenant": 1})
    await hooks.made(events=["document.ready", "document.ready"])
    assert_problem(await hooks.admin.post("/webhooks", json={"url": URL}), 409, "conflict")
    assert (await hooks.other.post("/webhooks", json={"url": URL})).status_code == 201


async def test_a_ping_is_delivered_and_a_dead_delivery_is_replayed(hooks: Hooks) -> None:
    id_ = (await hooks.made())["webhook"]
    documents = hooks.api.services.documents
    ping = await hooks.admin.post(f"/webhooks/{id_}/ping")
    assert (ping.status_code, ping.json()["type"], ping.json()["state"]) == (202, "ping", "pending")
    deliveries = f"/webhooks/{id_}/deliveries"
    pending = (await hooks.admin.get(deliveries, params={"state": "pending"})).json()["deliveries"]
    assert [one["delivery"] for one in pending] == [ping.json()["delivery"]]
    replay = f"{deliveries}/{pending[0]['delivery']}/replay"
    assert (await hooks.admin.post(replay)).json() == {"changed": False}
    [due] = await documents.due_deliveries(id_, 10)
    claimed = await documents.claim_delivery(due, 10.0)
    assert claimed is not None
    await documents.settle_delivery(claimed, WebhookDeliveryState.DEAD, error="the endpoint answered 500")
    [dead] = (await hooks.admin.get(deliveries)).json()["deliveries"]
    assert (dead["state"], dead["attempts"], dead["last_error"]) == ("dead", 1, "the endpoint answered 500")
    assert (await hooks.admin.post(replay)).json() == {"changed": True}
    assert_problem(await hooks.admin.post(f"{deliveries}/none/replay"), 404, "not_found")


async def test_deliveries_are_listed_in_parts(hooks: Hooks) -> None:
    id_ = (await hooks.made())["webhook"]
    ids = sorted([(await hooks.admin.post(f"/webhooks/{id_}/ping")).json()["delivery"] for _ in range(3)])
    found, after = [], None
    while True:
        parameters = {"state": "pending", "limit": "2"} | ({"after": after} if after else {})
        body = (await hooks.admin.get(f"/webhooks/{id_}/deliveries", params=parameters)).json()
        found += [one["delivery"] for one in body["deliveries"]]
        if (after := body["next"]) is None:
            break
    assert found == ids


async def test_the_python_client_manages_webhooks(hooks: Hooks) -> None:
    client = ApiClient(Target("http://api", "", "", is_local=True), hooks.admin)
    made = await client.create_webhook(URL, ["document.failed"], collection="manuals")
    assert (made.secret[:6], made.events, made.collection) == ("whsec_", ["document.failed"], "manuals")
    assert made.secret not in repr(made)
    assert [one.webhook for one in await client.webhooks()] == [made.webhook]
    ping = await client.ping_webhook(made.webhook)
    assert [one.delivery async for one in client.webhook_deliveries(made.webhook, "pending")] == [ping.delivery]
    assert not await client.replay_webhook_delivery(made.webhook, ping.delivery)
    await client.delete_webhook(made.webhook)
    assert await client.webhooks() == []
