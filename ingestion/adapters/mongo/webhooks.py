"""Subscriptions of webhooks, and their deliveries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog

from ingestion.adapters.mongo.database import MongoPort, aggregated, insert_new
from ingestion.adapters.mongo.errors import translated
from ingestion.adapters.mongo.fields import FieldReader, MongoRecord, moment_of
from ingestion.errors import BadRecord, NotFound
from ingestion.model import EventType, Webhook, WebhookDelivery, WebhookDeliveryState

log = structlog.get_logger(__name__)

_PENDING: Final = WebhookDeliveryState.PENDING.value


class MongoWebhooks(MongoPort):
    """Implements the port Webhooks."""

    @translated
    async def insert_webhook(self, webhook: Webhook) -> None:
        await self._webhooks.insert_one(
            {
                "_id": webhook.id,
                "tenant": webhook.tenant,
                "url": webhook.url,
                "secret": webhook.secret,
                "events": [one.value for one in webhook.events],
                "collection": webhook.collection,
                "created_at": datetime.now(UTC),
            }
        )

    @translated
    async def webhook(self, webhook_id: str) -> Webhook | None:
        record = await self._webhooks.find_one({"_id": webhook_id})
        return None if record is None else _webhook_of(record)

    @translated
    async def webhooks(self, tenant: str | None = None) -> list[Webhook]:
        records = await self._webhooks.find({} if tenant is None else {"tenant": tenant}).sort("_id", 1).to_list(None)
        return [found for record in records if (found := _webhook_of(record)) is not None]

    @translated
    async def delete_webhook(self, webhook_id: str, tenant: str) -> None:
        own = {"_id": webhook_id, "tenant": tenant}
        if await self._webhooks.find_one(own, {"_id": 1}) is None:
            raise NotFound(f"there is no webhook {webhook_id}")
        # The subscription goes after its deliveries: where removing many of them is cut off, the caller can repeat it.
        await self._deliveries.delete_many({"webhook": webhook_id})
        await self._webhooks.delete_one(own)
        await self._deliveries.delete_many({"webhook": webhook_id})  # those that the relay has added meanwhile


class MongoWebhookDeliveries(MongoPort):
    """Implements the port WebhookDeliveries. Times are those of this process: a few seconds decide nothing."""

    @translated
    async def add_deliveries(self, deliveries: Sequence[WebhookDelivery]) -> None:
        now = datetime.now(UTC)
        await insert_new(self._deliveries, [_record_of(delivery, now) for delivery in deliveries])

    @translated
    async def due_deliveries(self, webhook_id: str, limit: int) -> list[WebhookDelivery]:
        wanted = {"webhook": webhook_id, "state": _PENDING, "due_at": {"$lte": datetime.now(UTC)}}
        found = await self._deliveries.find(wanted).sort("due_at", 1).limit(limit).to_list(None)
        return [_delivery_of(record) for record in found]

    @translated
    async def claim_delivery(self, delivery: WebhookDelivery, lease_s: float) -> WebhookDelivery | None:
        unclaimed = {"_id": delivery.id, "state": _PENDING, "attempts": delivery.attempts}
        due_at = datetime.now(UTC) + timedelta(seconds=lease_s)
        changed = await self._deliveries.update_one(
            unclaimed, {"$set": {"attempts": delivery.attempts + 1, "due_at": due_at}}
        )
        if not changed.matched_count:
            return None
        record = await self._deliveries.find_one({"_id": delivery.id, "attempts": delivery.attempts + 1})
        return None if record is None else _delivery_of(record)

    @translated
    async def settle_delivery(
        self, delivery: WebhookDelivery, state: WebhookDeliveryState, *, error: str = "", again_in_s: float = 0.0
    ) -> None:
        now = datetime.now(UTC)
        settled: dict[str, Any] = {"state": state.value, "last_error": error}
        if state is WebhookDeliveryState.PENDING:
            settled["due_at"] = now + timedelta(seconds=again_in_s)
        else:
            settled["settled_at"] = now
        attempt = {"_id": delivery.id, "state": _PENDING, "attempts": delivery.attempts}
        await self._deliveries.update_one(attempt, {"$set": settled})

    @translated
    async def deliveries(
        self, webhook_id: str, state: WebhookDeliveryState, limit: int, *, after: str | None = None
    ) -> list[WebhookDelivery]:
        wanted: dict[str, Any] = {"webhook": webhook_id, "state": state.value}
        if after is not None:
            wanted["_id"] = {"$gt": after}
        found = await self._deliveries.find(wanted).sort("_id", 1).limit(limit).to_list(None)
        return [_delivery_of(record) for record in found]

    @translated
    async def replay_delivery(self, webhook_id: str, delivery_id: str) -> bool:
        again = {"state": _PENDING, "attempts": 0, "due_at": datetime.now(UTC), "settled_at": None}
        own = {"_id": delivery_id, "webhook": webhook_id}
        changed = await self._deliveries.update_one({**own, "state": WebhookDeliveryState.DEAD.value}, {"$set": again})
        if not changed.matched_count and await self._deliveries.find_one(own, {"_id": 1}) is None:
            raise NotFound(f"the webhook has no delivery {delivery_id}")
        return bool(changed.matched_count)

    @translated
    async def count_undelivered(self) -> Mapping[WebhookDeliveryState, int]:
        pipeline: list[MongoRecord] = [
            {"$match": {"state": {"$in": [_PENDING, WebhookDeliveryState.DEAD.value]}}},
            {"$group": {"_id": "$state", "deliveries": {"$sum": 1}}},
        ]
        found = await aggregated(self._deliveries, pipeline)
        return {WebhookDeliveryState(group["_id"]): int(group["deliveries"]) for group in found}

    @translated
    async def purge_deliveries(self, before: datetime) -> int:
        old = {"state": WebhookDeliveryState.DELIVERED.value, "settled_at": {"$lt": before}}
        return int((await self._deliveries.delete_many(old)).deleted_count)


def _webhook_of(record: MongoRecord) -> Webhook | None:
    """None, and a line in the log, for a record that does not say where to send what."""
    reader = FieldReader(record)
    texts = {name: reader.text(name) for name in ("tenant", "url", "secret")}
    events = record.get("events")
    try:
        reader.require_whole("webhook")
    except BadRecord as error:
        log.warning("webhook left out", cause=error.message)
        return None
    return Webhook(
        id=str(record["_id"]),
        **texts,
        events=tuple(EventType(one) for one in events if isinstance(one, str)) if isinstance(events, list) else (),
        collection=reader.text("collection", optional=True) or None,
        created_at=moment_of(record.get("created_at")),
    )


def _record_of(delivery: WebhookDelivery, now: datetime) -> dict[str, Any]:
    return {
        "_id": delivery.id,
        "webhook": delivery.webhook_id,
        "event": delivery.event_id,
        "type": delivery.type.value,
        "body": delivery.body,
        "state": _PENDING,
        "attempts": 0,
        "last_error": "",
        "created_at": now,
        "due_at": now,
        "settled_at": None,
    }


def _delivery_of(record: MongoRecord) -> WebhookDelivery:
    reader = FieldReader(record)
    return WebhookDelivery(
        id=str(record["_id"]),
        webhook_id=reader.text("webhook"),
        event_id=reader.text("event"),
        type=EventType(reader.text("type")),
        body=reader.text("body"),
        state=WebhookDeliveryState(reader.text("state")),
        attempts=reader.whole("attempts"),
        last_error=reader.text("last_error", optional=True),
        created_at=moment_of(record.get("created_at")),
        due_at=moment_of(record.get("due_at")),
        settled_at=moment_of(record.get("settled_at")),
    )
