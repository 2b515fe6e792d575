"""Webhooks: the outbox of events, subscriptions, deliveries, and the requests to endpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from ingestion.model import DocumentEvent, Webhook, WebhookDelivery, WebhookDeliveryState


@dataclass(frozen=True, slots=True)
class PendingEvents:
    """Events of one record of the outbox. `token` tells the store which state of the record was read."""

    events: Sequence[DocumentEvent]
    source: str
    token: object


class DocumentEvents(Protocol):
    """The outbox of events: each is written with the change that it reports, in the same update."""

    async def pending_events(self, limit: int) -> Sequence[PendingEvents]:
        """The oldest `limit` records that have events."""

    async def drop_events(self, pending: Sequence[PendingEvents]) -> None:
        """Remove the events from the outbox. A record that has got another event since keeps all of them."""


class Webhooks(Protocol):
    """Subscriptions."""

    async def insert_webhook(self, webhook: Webhook) -> None: ...

    async def webhook(self, webhook_id: str) -> Webhook | None: ...

    async def webhooks(self, tenant: str | None = None) -> Sequence[Webhook]:
        """The subscriptions of one tenant, or of all, in the order of their ids. Unreadable ones are left out."""

    async def delete_webhook(self, webhook_id: str, tenant: str) -> None:
        """Remove the subscription and its deliveries. Raises NotFound, also for one of another tenant."""


class WebhookDeliveries(Protocol):
    async def add_deliveries(self, deliveries: Sequence[WebhookDelivery]) -> None:
        """Insert as pending and due now. One whose id exists stays as it is: twice is the same as once."""

    async def due_deliveries(self, webhook_id: str, limit: int) -> Sequence[WebhookDelivery]:
        """Pending deliveries of the subscription that are due, the longest due first."""

    async def claim_delivery(self, delivery: WebhookDelivery, lease_s: float) -> WebhookDelivery | None:
        """Count an attempt, and let no other janitor take the delivery for `lease_s`.

        Returns the delivery as it is then. None, and nothing changed, where another janitor has taken it.
        """

    async def settle_delivery(
        self, delivery: WebhookDelivery, state: WebhookDeliveryState, *, error: str = "", again_in_s: float = 0.0
    ) -> None:
        """Record the result of the attempt that `delivery` counts. `again_in_s`: the pause where it stays pending.

        No effect where another attempt has been counted since, or the delivery is gone.
        """

    async def deliveries(
        self, webhook_id: str, state: WebhookDeliveryState, limit: int, *, after: str | None = None
    ) -> Sequence[WebhookDelivery]:
        """Deliveries of the subscription in this state, in the order of their ids, from after the id `after`."""

    async def replay_delivery(self, webhook_id: str, delivery_id: str) -> bool:
        """A dead delivery becomes pending and due now, without attempts. False, and nothing changed, for any other.

        Raises NotFound where the subscription has no such delivery.
        """

    async def count_undelivered(self) -> Mapping[WebhookDeliveryState, int]:
        """The pending and the dead deliveries of all subscriptions. A state without deliveries may be left out."""

    async def purge_deliveries(self, before: datetime) -> int:
        """Remove delivered ones that were settled before this time. Returns their number."""


class WebhookSender(Protocol):
    async def send(self, webhook: Webhook, delivery: WebhookDelivery) -> str:
        """Send the delivery's body once, signed. Returns "" where the endpoint has answered 2xx, else the reason.

        It never raises for a fault of the endpoint. It ends after a time limit.
        """
