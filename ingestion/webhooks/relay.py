"""Moves events from the outbox to the deliveries of the subscriptions that want them.

The steps: read events, insert their deliveries, remove the events from the outbox. A relay that ends between two steps
repeats them: the id of a delivery is made from those of the event and the subscription, so it is inserted once.
Relays may run side by side.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

import structlog

from ingestion.model import DocumentEvent, EventType, Webhook, WebhookDelivery, public_name, tenant_of
from ingestion.ports import DocumentEvents, WebhookDeliveries, Webhooks

log = structlog.get_logger(__name__)

_RECORDS_AT_ONCE: Final = 200
_DELIVERED_KEPT: Final = timedelta(days=3)
"""Delivered deliveries stay for so long: people can list them, and an event that is read again is not sent again."""


class RelayRecords(DocumentEvents, Webhooks, WebhookDeliveries, Protocol):
    """The records that the relay reads and writes."""


class WebhookRelay:
    def __init__(self, records: RelayRecords) -> None:
        self._records = records

    async def round(self) -> None:
        """Move all events that are in the outbox now. Raises DependencyUnavailable."""
        while pending := await self._records.pending_events(_RECORDS_AT_ONCE):
            # Read after the events: an event that is older than a subscription may be sent to it, and none is missed.
            webhooks = await self._records.webhooks()
            events = [event for one in pending for event in one.events]
            deliveries = deliveries_of(events, webhooks)
            if deliveries:
                await self._records.add_deliveries(deliveries)
                log.info("webhook deliveries added", events=len(events), deliveries=len(deliveries))
            await self._records.drop_events(pending)
            if len(pending) < _RECORDS_AT_ONCE:
                break
        await self._records.purge_deliveries(datetime.now(UTC) - _DELIVERED_KEPT)


def deliveries_of(events: Sequence[DocumentEvent], webhooks: Sequence[Webhook]) -> list[WebhookDelivery]:
    by_tenant: dict[str, list[Webhook]] = {}
    for webhook in webhooks:
        by_tenant.setdefault(webhook.tenant, []).append(webhook)
    return [
        delivery_of(webhook, event.id, event.type, event.at, _data(event))
        for event in events
        for webhook in by_tenant.get(tenant_of(event.collection), ())
        if webhook.wants(event)
    ]


def delivery_of(
    webhook: Webhook, event_id: str, type_: EventType, at: datetime, data: dict[str, Any]
) -> WebhookDelivery:
    body = {"id": event_id, "type": type_.value, "timestamp": at.isoformat(timespec="milliseconds"), "data": data}
    text = json.dumps(body, separators=(",", ":"))  # ASCII: each half of a surrogate pair is escaped
    return WebhookDelivery(f"{webhook.id}.{event_id}", webhook.id, event_id, type_, text)


def _data(event: DocumentEvent) -> dict[str, Any]:
    error = event.error
    return {
        "document_id": event.document_id,
        "collection": public_name(event.collection),
        "filename": event.filename,
        "pages": event.pages,
        "error": {"code": error.code, "stage": error.stage, "message": error.message} if error else None,
    }
