"""What every implementation of the ports DocumentEvents, Webhooks and WebhookDeliveries keeps."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ingestion.bootstrap import DocumentStore
from ingestion.errors import NotFound
from ingestion.model import DocumentEvent, EventType, Webhook, WebhookDelivery, WebhookDeliveryState
from tests.support.documents import FAILURE, S, document, in_state

WEBHOOK = Webhook("w1", "acme", "https://acme.example/hook", "whsec_AA==")


def delivery(id_: str, webhook_id: str = "w1") -> WebhookDelivery:
    return WebhookDelivery(id_, webhook_id, f"event of {id_}", EventType.READY, '{"a":"$b"}')


async def taken(store: DocumentStore) -> list[DocumentEvent]:
    """The events of the outbox, which is emptied."""
    pending = await store.pending_events(100)
    await store.drop_events(pending)
    assert await store.pending_events(100) == []
    return sorted((event for one in pending for event in one.events), key=lambda event: (event.at, event.id))


class DocumentEventsContract:
    async def test_each_terminal_change_writes_its_event(self, store: DocumentStore) -> None:
        await in_state(store, S.QUEUED, "d0")
        assert await taken(store) == []
        ready = await in_state(store, S.READY, "d1", collection="acme.c")
        failed = await in_state(store, S.FAILED, "d2")
        cancelled = await in_state(store, S.CANCELLED, "d3")
        events = {event.document_id: event for event in await taken(store)}
        assert {id_: event.type for id_, event in events.items()} == {
            "d1": EventType.READY,
            "d2": EventType.FAILED,
            "d3": EventType.CANCELLED,
        }
        assert events["d1"].id == f"d1-{ready.fence}-ready"
        assert (events["d1"].collection, events["d1"].filename, events["d1"].pages) == ("acme.c", ready.filename, 60)
        assert (events["d1"].error, events["d2"].error) == (None, FAILURE)
        assert events["d2"].id == f"d2-{failed.fence}-failed"
        assert events["d3"].id == f"d3-{cancelled.fence}-cancelled"
        assert all(abs(event.at - datetime.now(UTC)) < timedelta(minutes=5) for event in events.values())

    async def test_events_of_a_record_that_is_gone_are_kept(self, store: DocumentStore) -> None:
        await in_state(store, S.READY, "d1")
        deleting = await store.begin_delete("d1")
        await store.remove(deleting)
        await store.remove(deleting)  # the request may be repeated
        assert [event.type for event in await taken(store)] == [EventType.READY, EventType.DELETED]
        cancelled = await in_state(store, S.CANCELLED, "d2")
        again = replace(document("d2"), first_page_key=cancelled.first_page_key + 100)
        assert await store.restart(cancelled, again)
        assert [event.type for event in await taken(store)] == [EventType.CANCELLED]

    async def test_an_event_that_is_added_meanwhile_is_not_dropped(self, store: DocumentStore) -> None:
        failed = await in_state(store, S.FAILED, "d1")
        read = await store.pending_events(100)
        await store.requeue("d1", fence=failed.fence)
        claimed = await store.claim("d1", "w", 60_000)
        await store.finish(claimed)
        await store.drop_events(read)
        assert [event.type for event in await taken(store)][-1] is EventType.READY


class WebhooksContract:
    async def test_a_webhook_is_of_its_tenant(self, store: DocumentStore) -> None:
        other = replace(WEBHOOK, id="w2", tenant="other", events=(EventType.FAILED,), collection="other.c")
        for one in (WEBHOOK, other):
            await store.insert_webhook(one)
        assert [one.id for one in await store.webhooks()] == ["w1", "w2"]
        [found] = await store.webhooks("other")
        assert replace(found, created_at=None) == other
        assert found.created_at is not None
        await store.add_deliveries([delivery("a"), delivery("b", "w2")])
        with pytest.raises(NotFound):
            await store.delete_webhook("w1", "other")
        await store.delete_webhook("w1", "acme")
        assert await store.webhook("w1") is None
        assert await store.due_deliveries("w1", 10) == []
        assert len(await store.due_deliveries("w2", 10)) == 1

    async def test_a_delivery_is_claimed_by_one(self, store: DocumentStore) -> None:
        await store.add_deliveries([delivery("a"), delivery("b")])
        await store.add_deliveries([delivery("b"), delivery("c")])
        due = await store.due_deliveries("w1", 10)
        assert {one.id for one in due} == {"a", "b", "c"}
        assert len(await store.due_deliveries("w1", 2)) == 2
        claimed = await store.claim_delivery(due[0], 60.0)
        assert claimed is not None
        assert (claimed.attempts, claimed.body) == (1, '{"a":"$b"}')
        assert await store.claim_delivery(due[0], 60.0) is None
        assert len(await store.due_deliveries("w1", 10)) == 2
        await store.settle_delivery(claimed, WebhookDeliveryState.PENDING, error="500", again_in_s=0.0)
        [again] = [one for one in await store.due_deliveries("w1", 10) if one.id == claimed.id]
        assert (again.attempts, again.last_error) == (1, "500")

    async def test_dead_deliveries_are_kept_and_replayed(self, store: DocumentStore) -> None:
        await store.add_deliveries([delivery("a"), delivery("b")])
        for one, state in zip(
            await store.due_deliveries("w1", 10),
            (WebhookDeliveryState.DEAD, WebhookDeliveryState.DELIVERED),
            strict=True,
        ):
            claimed = await store.claim_delivery(one, 60.0)
            assert claimed is not None
            await store.settle_delivery(one, state)  # of an earlier attempt: no effect
            await store.settle_delivery(claimed, state, error="gone" if state is WebhookDeliveryState.DEAD else "")
        [dead] = await store.deliveries("w1", WebhookDeliveryState.DEAD, 10)
        [delivered] = await store.deliveries("w1", WebhookDeliveryState.DELIVERED, 10)
        assert (dead.last_error, dead.attempts, delivered.last_error) == ("gone", 1, "")
        assert {state: count for state, count in (await store.count_undelivered()).items() if count} == {
            WebhookDeliveryState.DEAD: 1
        }
        assert await store.deliveries("w1", WebhookDeliveryState.DEAD, 10, after=dead.id) == []
        assert not await store.replay_delivery("w1", delivered.id)
        for webhook_id, id_ in (("w1", "none"), ("w2", dead.id)):
            with pytest.raises(NotFound):
                await store.replay_delivery(webhook_id, id_)
        assert await store.replay_delivery("w1", dead.id)
        assert [(one.id, one.attempts) for one in await store.due_deliveries("w1", 10)] == [(dead.id, 0)]
        assert {state: count for state, count in (await store.count_undelivered()).items() if count} == {
            WebhookDeliveryState.PENDING: 1
        }
        assert await store.purge_deliveries(datetime.now(UTC) - timedelta(hours=1)) == 0
        assert await store.purge_deliveries(datetime.now(UTC) + timedelta(hours=1)) == 1
        assert await store.deliveries("w1", WebhookDeliveryState.DELIVERED, 10) == []
