"""From a document's change to its endpoint: the relay, the deliverer, and what happens when either of them ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace

import pytest

from ingestion import metrics
from ingestion.adapters.webhook_sender import HttpWebhookSender
from ingestion.errors import DependencyUnavailable, WorkerFault
from ingestion.model import EventType, Webhook, WebhookDelivery, WebhookDeliveryState
from ingestion.ports import PendingEvents
from ingestion.settings import WebhookSettings
from ingestion.webhooks.deliverer import WebhookDeliverer
from ingestion.webhooks.relay import WebhookRelay
from ingestion.webhooks.signature import new_secret
from tests.memory import MemoryDocumentStore
from tests.support.documents import S, in_state
from tests.support.hook_receiver import hook_receiver
from tests.support.waiting import wait_for

DELAYS_S = (5, 60)


class ScriptedSender:
    """Answers each URL as `answers` says; "" accepts. Notes what it was asked to send."""

    def __init__(self) -> None:
        self.answers: dict[str, str] = {}
        self.silent: set[str] = set()
        self.broken: set[str] = set()
        self.sent: list[tuple[str, str]] = []

    async def send(self, webhook: Webhook, delivery: WebhookDelivery) -> str:
        self.sent.append((webhook.url, delivery.event_id))
        if webhook.url in self.broken:
            raise RuntimeError("broken")
        if webhook.url in self.silent:
            await asyncio.Event().wait()
        return self.answers.get(webhook.url, "")


class Shop:
    """A store, its relay and its deliverer. Both clocks move together."""

    def __init__(self, store: MemoryDocumentStore | None = None) -> None:
        self.store = store or MemoryDocumentStore()
        self.sender = ScriptedSender()
        self.relay = WebhookRelay(self.store)
        self.now_s = 0.0
        self.deliverer = self.new_deliverer()

    def new_deliverer(self, at_once: int = 4) -> WebhookDeliverer:
        return WebhookDeliverer(
            self.store,
            self.sender,
            retry_delays_s=DELAYS_S,
            timeout_s=10.0,
            at_once=at_once,
            clock=lambda: self.now_s,
        )

    async def subscribe(self, id_: str = "w1", tenant: str = "default", **fields: object) -> Webhook:
        webhook = replace(Webhook(id_, tenant, f"https://{id_}.example/", new_secret()), **fields)  # type: ignore[arg-type]
        await self.store.insert_webhook(webhook)
        return webhook

    async def deliver(self) -> None:
        await self.relay.round()
        await self.deliverer.round()
        await self.deliverer.idle()

    def advance(self, seconds: float) -> None:
        self.now_s += seconds
        self.store.clock.advance(seconds)

    def deliveries(self) -> list[WebhookDelivery]:
        return list(self.store.state.deliveries.values())


@pytest.fixture
def shop() -> Shop:
    return Shop()


async def test_each_terminal_change_reaches_an_endpoint_once(shop: Shop) -> None:
    await shop.subscribe()
    for id_, state in (("d1", S.READY), ("d2", S.FAILED), ("d3", S.CANCELLED), ("d4", S.QUEUED)):
        await in_state(shop.store, state, id_)
    await shop.store.remove(await shop.store.begin_delete("d1"))
    await shop.deliver()
    await shop.deliver()
    bodies = [json.loads(one.body) for one in shop.deliveries()]
    assert sorted((one["data"]["document_id"], one["type"]) for one in bodies) == [
        ("d1", "document.deleted"),
        ("d1", "document.ready"),
        ("d2", "document.failed"),
        ("d3", "document.cancelled"),
    ]
    assert len(shop.sender.sent) == len(set(shop.sender.sent)) == 4
    [failed] = [one for one in bodies if one["type"] == "document.failed"]
    assert failed["data"]["error"]["code"] == "corrupt_pdf"
    assert {one.state for one in shop.deliveries()} == {WebhookDeliveryState.DELIVERED}
    shop.advance(4 * 86_400)
    await shop.store.purge_deliveries(shop.store.clock.now)
    assert shop.deliveries() == []


async def test_a_webhook_gets_the_events_of_its_tenant_its_collection_and_its_types(shop: Shop) -> None:
    await shop.subscribe("all", "acme")
    await shop.subscribe("one", "acme", collection="acme.c")
    await shop.subscribe("failures", "acme", events=(EventType.FAILED,))
    await shop.subscribe("other", "other")
    await shop.subscribe("default")
    for id_, state, collection in (("d1", S.READY, "acme.c"), ("d2", S.FAILED, "acme.d"), ("d3", S.READY, "acme")):
        await in_state(shop.store, state, id_, collection=collection)
    await shop.deliver()
    found = sorted((one.webhook_id, json.loads(one.body)["data"]["document_id"]) for one in shop.deliveries())
    assert found == [("all", "d1"), ("all", "d2"), ("default", "d3"), ("failures", "d2"), ("one", "d1")]
    assert all("acme." not in one.body for one in shop.deliveries())


async def test_a_failed_attempt_is_repeated_later_and_the_last_leaves_a_dead_delivery(shop: Shop) -> None:
    webhook = await shop.subscribe()
    await in_state(shop.store, S.READY)
    shop.sender.answers[webhook.url] = "the endpoint answered 500"
    before = {outcome: _count(outcome) for outcome in ("retried", "dead", "delivered")}
    for attempts, delay_s in enumerate((*DELAYS_S, 3600), 1):
        await shop.deliver()
        [delivery] = shop.deliveries()
        assert (delivery.attempts, delivery.last_error) == (attempts, "the endpoint answered 500")
        shop.advance(delay_s - 1)
        await shop.deliver()
        assert len(shop.sender.sent) == attempts, "it is not due yet"
        shop.advance(1)
    assert delivery.state is WebhookDeliveryState.DEAD
    assert (_count("retried") - before["retried"], _count("dead") - before["dead"]) == (2, 1)
    assert await shop.store.replay_delivery(webhook.id, delivery.id)
    shop.sender.answers.clear()
    await shop.deliver()
    assert [one.state for one in shop.deliveries()] == [WebhookDeliveryState.DELIVERED]
    assert _count("delivered") - before["delivered"] == 1


def test_each_outcome_is_counted_from_0(shop: Shop) -> None:
    """In Prometheus a series that begins with its first count has no increase: no alert would fire."""
    metrics.WEBHOOK_DELIVERIES.clear()
    shop.new_deliverer()
    found = {one.labels["outcome"] for family in metrics.WEBHOOK_DELIVERIES.collect() for one in family.samples}
    assert found == {"delivered", "retried", "dead"}


def _count(outcome: str) -> float:
    return metrics.WEBHOOK_DELIVERIES.labels(outcome)._value.get()


class CutOff(MemoryDocumentStore):
    """Fails once in `step`."""

    def __init__(self, step: str) -> None:
        super().__init__()
        self.step = step

    def _fail_once(self, step: str) -> None:
        if self.step == step:
            self.step = ""
            raise DependencyUnavailable("mongodb", "cut off")

    async def add_deliveries(self, deliveries: Sequence[WebhookDelivery]) -> None:
        self._fail_once("before adding")
        await super().add_deliveries(deliveries)
        self._fail_once("after adding")

    async def drop_events(self, pending: Sequence[PendingEvents]) -> None:
        self._fail_once("before dropping")
        await super().drop_events(pending)
        self._fail_once("after dropping")


@pytest.mark.parametrize("step", ["before adding", "after adding", "before dropping", "after dropping"])
async def test_a_relay_that_is_cut_off_loses_and_repeats_nothing(step: str) -> None:
    shop = Shop(CutOff(step))
    await shop.subscribe()
    for number in range(3):
        await in_state(shop.store, S.READY, f"d{number}")
    with pytest.raises(DependencyUnavailable):
        await shop.relay.round()
    await shop.deliver()
    assert sorted(event for _, event in shop.sender.sent) == sorted(one.event_id for one in shop.deliveries())
    assert len(shop.sender.sent) == 3


async def test_a_delivery_whose_sender_is_killed_is_sent_again_after_its_lease(shop: Shop) -> None:
    webhook = await shop.subscribe()
    await in_state(shop.store, S.READY)
    shop.sender.silent = {webhook.url}
    await shop.relay.round()
    await shop.deliverer.round()
    await wait_for(lambda: len(shop.sender.sent) == 1)
    await shop.deliverer.close()
    shop.sender.silent = set()
    shop.deliverer = shop.new_deliverer()
    await shop.deliver()
    assert len(shop.sender.sent) == 1, "the lease runs"
    shop.advance(21)
    await shop.deliver()
    [delivery] = shop.deliveries()
    assert (delivery.state, delivery.attempts) == (WebhookDeliveryState.DELIVERED, 2)
    assert shop.sender.sent[0] == shop.sender.sent[1], "with the same event id"


async def test_silent_endpoints_delay_no_other(shop: Shop) -> None:
    """More silent endpoints than places: the healthy one still gets all of its events."""
    shop.deliverer = shop.new_deliverer(at_once=8)
    healthy = await shop.subscribe("healthy")
    silent = [await shop.subscribe(f"silent{number}") for number in range(6)]
    for one in silent:
        shop.sender.answers[one.url] = "no answer"
    await in_state(shop.store, S.READY, "d0")
    await shop.deliver()  # the silent ones have failed once
    shop.sender.silent = {one.url for one in silent}
    for number in range(1, 20):
        await in_state(shop.store, S.READY, f"d{number}")
    shop.advance(10)
    await shop.relay.round()

    def delivered() -> int:
        return sum(url == healthy.url for url, _ in shop.sender.sent)

    await shop.deliverer.round()
    await wait_for(lambda: delivered() == 20)
    assert sum(url != healthy.url for url, _ in shop.sender.sent[7:]) <= 2, "the others wait for their own places"
    await shop.deliverer.close()


async def test_an_endpoint_that_fails_rests(shop: Shop) -> None:
    webhook = await shop.subscribe()
    shop.sender.answers[webhook.url] = "no"
    for number in range(20):
        await in_state(shop.store, S.READY, f"d{number}")
    await shop.deliver()
    first = len(shop.sender.sent)
    assert first <= 4
    await shop.deliver()
    assert len(shop.sender.sent) == first
    shop.advance(1)
    await shop.deliver()
    assert len(shop.sender.sent) == first + 1, "one at a time until it answers"


async def test_a_delivery_that_the_sender_cannot_send_ends_as_a_dead_one(shop: Shop) -> None:
    webhook = await shop.subscribe()
    await in_state(shop.store, S.READY)
    shop.sender.broken = {webhook.url}
    for _ in range(len(DELAYS_S) + 1):
        await shop.deliver()
        shop.advance(3600)
    [delivery] = shop.deliveries()
    assert (delivery.state, delivery.attempts) == (WebhookDeliveryState.DEAD, len(DELAYS_S) + 1)
    assert delivery.last_error == "Pagemill could not send it: RuntimeError"


class Unclaimable(MemoryDocumentStore):
    """Its deliveries cannot be claimed: their records are damaged. Counts how often it is asked for them."""

    asked = 0

    async def due_deliveries(self, webhook_id: str, limit: int) -> list[WebhookDelivery]:
        self.asked += 1
        assert self.asked < 10, "it is asked again and again"
        return await super().due_deliveries(webhook_id, limit)

    async def claim_delivery(self, delivery: WebhookDelivery, lease_s: float) -> None:
        return None


async def test_deliveries_that_cannot_be_claimed_are_looked_at_once_a_round() -> None:
    store = Unclaimable()
    shop = Shop(store)
    await shop.subscribe()
    await in_state(store, S.READY)
    for rounds in (1, 2):
        await shop.deliver()
        assert store.asked == rounds


class Faulty(MemoryDocumentStore):
    asked = 0

    async def due_deliveries(self, webhook_id: str, limit: int) -> list[WebhookDelivery]:
        self.asked += 1
        raise WorkerFault("a fault of this release")


async def test_after_a_fault_of_the_records_an_endpoint_rests() -> None:
    store = Faulty()
    shop = Shop(store)
    await shop.subscribe()
    for _ in range(3):
        await shop.deliver()
    assert store.asked == 1
    shop.advance(1)
    await shop.deliver()
    assert store.asked == 2


async def test_an_event_reaches_a_real_endpoint_after_it_was_down(shop: Shop) -> None:
    settings = WebhookSettings(webhook_allow_private=True, webhook_timeout_s=0.3)
    async with hook_receiver() as receiver, HttpWebhookSender(settings) as sender:
        shop.sender = sender  # type: ignore[assignment]
        shop.deliverer = shop.new_deliverer()
        await shop.subscribe(url=receiver.url)
        receiver.answers = [500, "silent"]
        await in_state(shop.store, S.READY)
        for _ in range(3):
            await shop.deliver()
            shop.advance(60)
        assert [one.state for one in shop.deliveries()] == [WebhookDeliveryState.DELIVERED]
        ids = {headers["webhook-id"] for headers, _ in receiver.requests}
        assert (len(receiver.requests), len(ids)) == (3, 1)
        assert len({body for _, body in receiver.requests}) == 1
