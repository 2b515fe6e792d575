"""The outbox of events, subscriptions and deliveries in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from ingestion.errors import NotFound
from ingestion.model import Webhook, WebhookDelivery, WebhookDeliveryState
from ingestion.ports import PendingEvents
from tests.memory.state import MemoryPort

_PENDING = WebhookDeliveryState.PENDING


class MemoryDocumentEvents(MemoryPort):
    async def pending_events(self, limit: int) -> list[PendingEvents]:
        found = [
            PendingEvents(tuple(events), document_id, len(events))
            for document_id, events in self.state.events.items()
            if events
        ]
        return found[:limit]

    async def drop_events(self, pending: Sequence[PendingEvents]) -> None:
        for one in pending:
            if len(self.state.events[one.source]) == one.token:
                self.state.events[one.source].clear()


class MemoryWebhooks(MemoryPort):
    async def insert_webhook(self, webhook: Webhook) -> None:
        self.state.webhooks[webhook.id] = replace(webhook, created_at=self.clock.now)

    async def webhook(self, webhook_id: str) -> Webhook | None:
        return self.state.webhooks.get(webhook_id)

    async def webhooks(self, tenant: str | None = None) -> list[Webhook]:
        return [one for _, one in sorted(self.state.webhooks.items()) if tenant in (None, one.tenant)]

    async def delete_webhook(self, webhook_id: str, tenant: str) -> None:
        webhook = self.state.webhooks.get(webhook_id)
        if webhook is None or webhook.tenant != tenant:
            raise NotFound(f"there is no webhook {webhook_id}")
        del self.state.webhooks[webhook_id]
        for id_ in [one.id for one in self.state.deliveries.values() if one.webhook_id == webhook_id]:
            del self.state.deliveries[id_]


class MemoryWebhookDeliveries(MemoryPort):
    async def add_deliveries(self, deliveries: Sequence[WebhookDelivery]) -> None:
        now = self.clock.now
        for one in deliveries:
            self.state.deliveries.setdefault(one.id, replace(one, created_at=now, due_at=now))

    async def due_deliveries(self, webhook_id: str, limit: int) -> list[WebhookDelivery]:
        due = [one for one in self._of(webhook_id, _PENDING) if self._due_at(one) <= self.clock.now]
        return sorted(due, key=self._due_at)[:limit]

    async def claim_delivery(self, delivery: WebhookDelivery, lease_s: float) -> WebhookDelivery | None:
        found = self.state.deliveries.get(delivery.id)
        if found is None or (found.state, found.attempts) != (_PENDING, delivery.attempts):
            return None
        claimed = replace(found, attempts=found.attempts + 1, due_at=self.clock.now + timedelta(seconds=lease_s))
        self.state.deliveries[delivery.id] = claimed
        return claimed

    async def settle_delivery(
        self, delivery: WebhookDelivery, state: WebhookDeliveryState, *, error: str = "", again_in_s: float = 0.0
    ) -> None:
        found = self.state.deliveries.get(delivery.id)
        if found is None or (found.state, found.attempts) != (_PENDING, delivery.attempts):
            return
        settled = replace(found, state=state, last_error=error)
        if state is _PENDING:
            settled = replace(settled, due_at=self.clock.now + timedelta(seconds=again_in_s))
        else:
            settled = replace(settled, settled_at=self.clock.now)
        self.state.deliveries[delivery.id] = settled

    async def deliveries(
        self, webhook_id: str, state: WebhookDeliveryState, limit: int, *, after: str | None = None
    ) -> list[WebhookDelivery]:
        return [one for one in self._of(webhook_id, state) if one.id > (after or "")][:limit]

    async def replay_delivery(self, webhook_id: str, delivery_id: str) -> bool:
        found = self.state.deliveries.get(delivery_id)
        if found is None or found.webhook_id != webhook_id:
            raise NotFound(f"the webhook has no delivery {delivery_id}")
        if found.state is not WebhookDeliveryState.DEAD:
            return False
        again = replace(found, state=_PENDING, attempts=0, due_at=self.clock.now, settled_at=None)
        self.state.deliveries[delivery_id] = again
        return True

    async def count_undelivered(self) -> Mapping[WebhookDeliveryState, int]:
        counts = Counter(one.state for one in self.state.deliveries.values())
        return {state: counts[state] for state in (_PENDING, WebhookDeliveryState.DEAD)}

    async def purge_deliveries(self, before: datetime) -> int:
        old = [
            one.id
            for one in self.state.deliveries.values()
            if one.state is WebhookDeliveryState.DELIVERED and one.settled_at is not None and one.settled_at < before
        ]
        for id_ in old:
            del self.state.deliveries[id_]
        return len(old)

    def _of(self, webhook_id: str, state: WebhookDeliveryState) -> list[WebhookDelivery]:
        found = (one for one in self.state.deliveries.values() if (one.webhook_id, one.state) == (webhook_id, state))
        return sorted(found, key=lambda one: one.id)

    def _due_at(self, delivery: WebhookDelivery) -> datetime:
        assert delivery.due_at is not None
        return delivery.due_at
