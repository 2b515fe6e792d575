"""Routes of webhooks: subscriptions of a tenant, and their deliveries. For administrators of the tenant."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Annotated, Final, Literal, get_args

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from ingestion.api.auth import needs
from ingestion.api.dependencies import PrincipalDep, ServicesDep
from ingestion.concurrency.deadline import budget
from ingestion.errors import Conflict, NotFound
from ingestion.model import (
    EventType,
    Role,
    Webhook,
    WebhookDelivery,
    WebhookDeliveryState,
    check_text,
    public_name,
    qualified_name,
)
from ingestion.webhooks.addresses import check_url
from ingestion.webhooks.relay import delivery_of
from ingestion.webhooks.signature import new_secret

router = APIRouter(tags=["webhooks"])

_ID_BYTES: Final = 8
EventName = Literal["document.ready", "document.failed", "document.cancelled", "document.deleted"]


class WebhookView(BaseModel):
    """A subscription without its secret."""

    webhook: str = Field(description="the id of the webhook")
    url: str
    events: list[str]
    collection: str | None = Field(description="null: all collections of the tenant")
    created_at: datetime | None

    @classmethod
    def of(cls, webhook: Webhook) -> WebhookView:
        return cls(
            webhook=webhook.id,
            url=webhook.url,
            events=[one.value for one in webhook.events],
            collection=None if webhook.collection is None else public_name(webhook.collection),
            created_at=webhook.created_at,
        )


class NewWebhookView(WebhookView):
    secret: str = Field(description="for checking signatures; it is in no later answer")


class WebhookListView(BaseModel):
    webhooks: list[WebhookView]


class WebhookRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    url: str = Field(description="an https address that is reached over a public address")
    events: list[EventName] = Field(
        default_factory=lambda: [*get_args(EventName)], min_length=1, max_length=10, description="default: all"
    )
    collection: str | None = Field(None, description="only events of this collection")


class DeliveryView(BaseModel):
    """An event on its way to an endpoint."""

    delivery: str = Field(description="the id of the delivery")
    event: str = Field(description="the id of the event: the header webhook-id")
    type: str
    state: str = Field(description="pending, delivered, or dead: all attempts have failed")
    attempts: int
    last_error: str
    created_at: datetime | None
    due_at: datetime | None = Field(description="the next attempt of a pending delivery")
    settled_at: datetime | None

    @classmethod
    def of(cls, one: WebhookDelivery) -> DeliveryView:
        return cls(
            delivery=one.id,
            event=one.event_id,
            type=one.type.value,
            state=one.state.value,
            attempts=one.attempts,
            last_error=one.last_error,
            created_at=one.created_at,
            due_at=one.due_at if one.state is WebhookDeliveryState.PENDING else None,
            settled_at=one.settled_at,
        )


class DeliveryListView(BaseModel):
    deliveries: list[DeliveryView]
    next: str | None = Field(description="the value of `after` for the next page; null on the last page")


class ReplayView(BaseModel):
    changed: bool = Field(description="false where the delivery was not dead")


async def own_webhook(webhook_id: str, principal: PrincipalDep, services: ServicesDep) -> Webhook:
    """The webhook, if it is of the caller's tenant. Raises NotFound, DependencyUnavailable."""
    with budget(services.settings.api.store_budget_s):
        found = await services.documents.webhook(webhook_id)
    if found is None or found.tenant != principal.tenant:
        raise NotFound(f"there is no webhook {webhook_id}")
    return found


WebhookDep = Annotated[Webhook, Depends(own_webhook)]


@router.get("/webhooks")
@needs(Role.ADMIN)
async def list_webhooks(services: ServicesDep, principal: PrincipalDep) -> WebhookListView:
    """The webhooks of the caller's tenant, by id."""
    with budget(services.settings.api.store_budget_s):
        found = await services.documents.webhooks(principal.tenant)
    return WebhookListView(webhooks=[WebhookView.of(one) for one in found])


@router.post("/webhooks", status_code=201)
@needs(Role.ADMIN)
async def create_webhook(wanted: WebhookRequest, services: ServicesDep, principal: PrincipalDep) -> NewWebhookView:
    """Send the events of the tenant's documents to an address, from now on. The answer alone has the secret."""
    settings = services.settings
    webhook = Webhook(
        id=secrets.token_hex(_ID_BYTES),
        tenant=principal.tenant,
        url=check_url(check_text(wanted.url, "the url"), allow_private=settings.webhooks.webhook_allow_private),
        secret=new_secret(),
        events=tuple(EventType(one) for one in dict.fromkeys(wanted.events)),
        collection=None if wanted.collection is None else qualified_name(principal.tenant, wanted.collection),
    )
    with budget(settings.api.store_budget_s):
        count = len(await services.documents.webhooks(principal.tenant))
        if count >= settings.webhooks.webhooks_per_tenant:
            raise Conflict(f"tenant {principal.tenant!r} has {count} webhooks: delete some of them first")
        await services.documents.insert_webhook(webhook)
        stored = await services.documents.webhook(webhook.id) or webhook
    return NewWebhookView(**WebhookView.of(stored).model_dump(), secret=webhook.secret)


@router.get("/webhooks/{webhook_id}")
@needs(Role.ADMIN)
async def get_webhook(webhook: WebhookDep) -> WebhookView:
    return WebhookView.of(webhook)


@router.delete("/webhooks/{webhook_id}", status_code=204)
@needs(Role.ADMIN)
async def delete_webhook(webhook: WebhookDep, services: ServicesDep) -> None:
    """Remove the webhook and its deliveries."""
    with budget(services.settings.api.store_budget_s):
        await services.documents.delete_webhook(webhook.id, webhook.tenant)


@router.post("/webhooks/{webhook_id}/ping", status_code=202)
@needs(Role.ADMIN)
async def ping_webhook(webhook: WebhookDep, services: ServicesDep) -> DeliveryView:
    """Send an event `ping`. The janitor sends it within seconds; the list of deliveries shows the result."""
    event_id = f"ping-{secrets.token_hex(_ID_BYTES)}"
    ping = delivery_of(webhook, event_id, EventType.PING, datetime.now(UTC), {})
    with budget(services.settings.api.store_budget_s):
        await services.documents.add_deliveries([ping])
    return DeliveryView.of(ping)


@router.get("/webhooks/{webhook_id}/deliveries")
@needs(Role.ADMIN)
async def list_deliveries(
    webhook: WebhookDep,
    services: ServicesDep,
    state: Annotated[
        WebhookDeliveryState, Query(description="only deliveries in this state")
    ] = WebhookDeliveryState.DEAD,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: str | None = None,
) -> DeliveryListView:
    """Deliveries of the webhook, by id. Delivered ones are kept for three days, dead ones until they are replayed."""
    with budget(services.settings.api.store_budget_s):
        found = await services.documents.deliveries(webhook.id, state, limit + 1, after=after)
    page = found[:limit]
    return DeliveryListView(
        deliveries=[DeliveryView.of(one) for one in page], next=page[-1].id if len(found) > limit else None
    )


@router.post("/webhooks/{webhook_id}/deliveries/{delivery_id}/replay")
@needs(Role.ADMIN)
async def replay_delivery(webhook: WebhookDep, delivery_id: str, services: ServicesDep) -> ReplayView:
    """Try a dead delivery again, from its first attempt on. A delivery in another state stays as it is."""
    with budget(services.settings.api.store_budget_s):
        return ReplayView(changed=await services.documents.replay_delivery(webhook.id, delivery_id))
