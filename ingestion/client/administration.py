"""Requests for dead letters, cancellations, keys, webhooks and the state of the system."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

from ingestion.client.administration_views import (
    CancelResult,
    DeadLetter,
    DeadLetterList,
    DeadLetterReport,
    DeadLetterResult,
    KeyList,
    KeyView,
    NewKey,
    NewWebhook,
    Replayed,
    SystemView,
    WebhookDelivery,
    WebhookDeliveryList,
    WebhookList,
    WebhookView,
)
from ingestion.client.answers import parse
from ingestion.client.requests import ApiRequests, collection_url, document_url, resource_url
from ingestion.client.views import DocumentView
from ingestion.model import check_text
from ingestion.role import Role


class AdministrationClient(ApiRequests):
    """The part of ApiClient that is not about uploads and searches."""

    async def cancel(self, document_id: str) -> DocumentView:
        """Stop the work on a document. Raises ApiError `conflict` where there is none."""
        return parse(DocumentView, await self._request("POST", f"{document_url(document_id)}/cancel"))

    async def cancel_collection(self, collection: str, where: str | None = None) -> CancelResult:
        """Cancel the unfinished documents of a collection, or those that the filter selects."""
        params = {} if where is None else {"filter": check_text(where, "the filter")}
        return parse(CancelResult, await self._request("POST", collection_url(collection, "cancel"), params=params))

    async def dead_letters(self, collection: str | None = None, state: str = "open") -> AsyncIterator[DeadLetter]:
        """Dead letters, newest first. Pages of the listing are requested as needed. `state`: also `all`."""
        query = {"state": state} | ({} if collection is None else {"collection": collection})
        async for page in self._listed(DeadLetterList, "dead-letters", query):
            for letter in page.dead_letters:
                yield letter

    async def dead_letter(self, letter: str) -> DeadLetterReport:
        return parse(DeadLetterReport, await self._request("GET", resource_url("dead-letters", letter)))

    async def replay_dead_letter(self, letter: str, why: str = "") -> DeadLetterResult:
        """Process the document again. Raises ApiError `conflict` for a letter that is closed in another way."""
        return await self._act_on_letter(letter, "replay", why)

    async def discard_dead_letter(self, letter: str, why: str = "") -> DeadLetterResult:
        """Close the letter. Raises ApiError `conflict` for a letter that is closed in another way."""
        return await self._act_on_letter(letter, "discard", why)

    async def system(self, minutes: int = 15) -> SystemView:
        """What the installation does now, and what it has finished in the last minutes."""
        return parse(SystemView, await self._request("GET", "system", params={"minutes": minutes}))

    async def keys(self, tenant: str | None = None) -> list[KeyView]:
        """The keys of the caller's tenant; with the key of the settings those of all tenants, or of `tenant`."""
        params = {} if tenant is None else {"tenant": tenant}
        return parse(KeyList, await self._request("GET", "keys", params=params)).keys

    async def create_key(
        self,
        role: Role = Role.READ,
        *,
        name: str = "",
        tenant: str | None = None,
        expires_at: datetime | None = None,
    ) -> NewKey:
        """A new key. Its text is in no later answer. The request is not repeated: it could make a second key."""
        body: dict[str, Any] = {"role": role.value, "name": check_text(name, "the name")}
        if tenant is not None:
            body["tenant"] = tenant
        if expires_at is not None:
            body["expires_at"] = expires_at.isoformat()
        return parse(NewKey, await self._send("POST", "keys", json=body))

    async def revoke_key(self, key: str) -> None:
        """End a key for good. Twice is the same as once."""
        await self._request("DELETE", resource_url("keys", key))

    async def webhooks(self) -> list[WebhookView]:
        """The webhooks of the caller's tenant."""
        return parse(WebhookList, await self._request("GET", "webhooks")).webhooks

    async def create_webhook(
        self, url: str, events: Sequence[str] = (), *, collection: str | None = None
    ) -> NewWebhook:
        """Send events to `url`: all, or the named ones. The secret is in no later answer.

        The request is not repeated: it could make a second webhook.
        """
        body: dict[str, Any] = {"url": check_text(url, "the url")}
        if events:
            body["events"] = list(events)
        if collection is not None:
            body["collection"] = collection
        return parse(NewWebhook, await self._send("POST", "webhooks", json=body))

    async def delete_webhook(self, webhook: str) -> None:
        await self._request("DELETE", resource_url("webhooks", webhook))

    async def ping_webhook(self, webhook: str) -> WebhookDelivery:
        """Send an event `ping`. `webhook_deliveries` shows its result. The request is not repeated."""
        return parse(WebhookDelivery, await self._send("POST", f"{resource_url('webhooks', webhook)}/ping"))

    async def webhook_deliveries(self, webhook: str, state: str = "dead") -> AsyncIterator[WebhookDelivery]:
        """Deliveries that are `dead`, `pending` or `delivered`. Pages of the listing are requested as needed."""
        url = f"{resource_url('webhooks', webhook)}/deliveries"
        async for page in self._listed(WebhookDeliveryList, url, {"state": state}):
            for delivery in page.deliveries:
                yield delivery

    async def replay_webhook_delivery(self, webhook: str, delivery: str) -> bool:
        """Send a dead delivery again. False where it is not dead."""
        url = f"{resource_url('webhooks', webhook)}/{resource_url('deliveries', delivery)}/replay"
        return parse(Replayed, await self._request("POST", url)).changed

    async def _act_on_letter(self, letter: str, action: str, why: str) -> DeadLetterResult:
        body = {"why": check_text(why, "the reason")}
        return parse(
            DeadLetterResult,
            await self._request("POST", f"{resource_url('dead-letters', letter)}/{action}", json=body),
        )
