"""Webhooks: events of documents, subscriptions to them, and their deliveries."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from ingestion.model.documents import Failure
from ingestion.model.tenants import tenant_of
from ingestion.open_enum import OpenStrEnum


class EventType(OpenStrEnum):
    READY = "document.ready"
    FAILED = "document.failed"
    CANCELLED = "document.cancelled"
    DELETED = "document.deleted"
    PING = "ping"
    """A test of one subscription. No subscription can name it."""


DOCUMENT_EVENTS = (EventType.READY, EventType.FAILED, EventType.CANCELLED, EventType.DELETED)


@dataclass(frozen=True, slots=True)
class DocumentEvent:
    """A change of a document's state. `collection` is the qualified name. The id is the same in each repetition."""

    id: str
    type: EventType
    at: datetime
    document_id: str
    collection: str
    filename: str
    pages: int = 0
    error: Failure | None = None

    @staticmethod
    def make_id(document_id: str, fence: int, type_: str) -> str:
        """The id of an event. A document enters a state once under each fence."""
        return f"{document_id}-{fence}-{type_.rpartition('.')[2]}"


@dataclass(frozen=True, slots=True)
class Webhook:
    """A subscription. `collection` is a qualified name; None: all collections of the tenant."""

    id: str
    tenant: str
    url: str
    secret: str = field(repr=False)
    events: tuple[EventType, ...] = DOCUMENT_EVENTS
    collection: str | None = None
    created_at: datetime | None = None

    def wants(self, event: DocumentEvent) -> bool:
        is_of_tenant = tenant_of(event.collection) == self.tenant
        return is_of_tenant and event.type in self.events and self.collection in (None, event.collection)


class WebhookDeliveryState(StrEnum):
    PENDING = "pending"
    """To be sent, or sent again."""
    DELIVERED = "delivered"
    DEAD = "dead"
    """All attempts have failed. It is kept until it is replayed, or its subscription is deleted."""


@dataclass(frozen=True, slots=True)
class WebhookDelivery:
    """An event on its way to one subscription. `body` is what is sent, byte for byte, in each attempt."""

    id: str
    webhook_id: str
    event_id: str
    type: EventType
    body: str
    state: WebhookDeliveryState = WebhookDeliveryState.PENDING
    attempts: int = 0
    last_error: str = ""
    created_at: datetime | None = None
    due_at: datetime | None = None
    settled_at: datetime | None = None
