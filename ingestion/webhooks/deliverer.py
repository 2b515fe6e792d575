"""Sends due deliveries to their endpoints.

Each endpoint has a task of its own. Endpoints that failed last, or were slow, share a limit of their own, and use
nothing of that of the others. A delivery is claimed before it is sent, and its attempt is counted then: a process that
is killed in between leaves it to the next one, after the lease.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog

from ingestion import metrics
from ingestion.concurrency.tasks import gather_or_cancel
from ingestion.errors import DependencyUnavailable
from ingestion.model import Webhook, WebhookDelivery, WebhookDeliveryState
from ingestion.ports import WebhookDeliveries, Webhooks, WebhookSender

log = structlog.get_logger(__name__)

_OUTCOMES: Final = ("delivered", "retried", "dead")
"""Of an attempt, in the metric."""
_AT_ONCE: Final = 4
"""Deliveries to one healthy endpoint at a time. To another one: one."""
_SLOW_S: Final = 2.0
_FIRST_REST_S: Final = 1.0
_LONGEST_REST_S: Final = 60.0
_LEASE_MARGIN_S: Final = 5.0


class DeliveryRecords(Webhooks, WebhookDeliveries, Protocol):
    """The records that the deliverer reads and writes."""


@dataclass(slots=True)
class _Endpoint:
    """How the last attempts at an endpoint went. After failures it rests, so that it is not flooded."""

    is_slow: bool = False
    rest_s: float = 0.0
    rests_until_s: float = 0.0
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class WebhookDeliverer:
    def __init__(
        self,
        records: DeliveryRecords,
        sender: WebhookSender,
        *,
        retry_delays_s: Sequence[int],
        timeout_s: float,
        at_once: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`at_once`: requests to healthy endpoints at a time; a quarter of it to the others."""
        self._records = records
        self._sender = sender
        self._retry_delays_s = retry_delays_s
        self._lease_s = timeout_s + _LEASE_MARGIN_S
        self._clock = clock
        self._fast = asyncio.Semaphore(at_once)
        self._slow = asyncio.Semaphore(max(1, at_once // 4))
        self._endpoints: dict[str, _Endpoint] = {}
        for outcome in _OUTCOMES:  # at 0: the increase from no series to the first count is none in Prometheus
            metrics.WEBHOOK_DELIVERIES.labels(outcome)

    async def round(self) -> None:
        """Start sending to each endpoint that is idle, and return without waiting. Raises DependencyUnavailable."""
        webhooks = await self._records.webhooks()
        known = {webhook.id for webhook in webhooks}
        self._endpoints = {id_: one for id_, one in self._endpoints.items() if id_ in known or one.task is not None}
        for webhook in webhooks:
            endpoint = self._endpoints.setdefault(webhook.id, _Endpoint())
            if endpoint.task is None and endpoint.rests_until_s <= self._clock():
                endpoint.task = asyncio.create_task(self._serve(webhook, endpoint))

    async def idle(self) -> None:
        """Wait until nothing is being sent."""
        while tasks := [one.task for one in self._endpoints.values() if one.task is not None]:
            await asyncio.wait(tasks)

    async def close(self) -> None:
        """Stop sending. Deliveries that were being sent are sent again after their lease."""
        tasks = [one.task for one in self._endpoints.values() if one.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, webhook: Webhook, endpoint: _Endpoint) -> None:
        """Send what is due, until nothing is, or the endpoint fails."""
        try:
            while True:
                at_once = 1 if endpoint.is_slow else _AT_ONCE
                due = await self._records.due_deliveries(webhook.id, at_once)
                if not due:
                    return
                results = await gather_or_cancel(*(self._attempt(webhook, endpoint, one) for one in due))
                if False in results:
                    self._let_rest(endpoint)
                    return
                if True not in results:  # others have claimed them, or the records are damaged
                    return
                endpoint.rest_s = 0.0
        except DependencyUnavailable as error:
            log.warning("webhook deliveries wait", webhook=webhook.id, cause=error.message)
        except Exception as error:  # nobody awaits this task
            self._let_rest(endpoint)
            log.error("webhook deliveries failed", webhook=webhook.id, exc_info=error)
        finally:
            endpoint.task = None

    def _let_rest(self, endpoint: _Endpoint) -> None:
        endpoint.rest_s = min(_LONGEST_REST_S, max(_FIRST_REST_S, 2 * endpoint.rest_s))
        endpoint.rests_until_s = self._clock() + endpoint.rest_s

    async def _attempt(self, webhook: Webhook, endpoint: _Endpoint, due: WebhookDelivery) -> bool | None:
        """Send one delivery. False where that has failed, None where it cannot be claimed."""
        async with self._slow if endpoint.is_slow else self._fast:
            delivery = await self._records.claim_delivery(due, self._lease_s)
            if delivery is None:
                return None
            began_s = self._clock()
            error = await self._send(webhook, delivery)
        took_s = self._clock() - began_s
        metrics.WEBHOOK_DURATION.observe(took_s)
        endpoint.is_slow = bool(error) or took_s > _SLOW_S
        await self._settle(webhook, delivery, error)
        return not error

    async def _send(self, webhook: Webhook, delivery: WebhookDelivery) -> str:
        """A fault of the sender counts as a failed attempt: a delivery that it cannot send ends as a dead one."""
        try:
            return await self._sender.send(webhook, delivery)
        except Exception as error:
            log.error("webhook not sent", webhook=webhook.id, event_id=delivery.event_id, exc_info=error)
            return f"Pagemill could not send it: {type(error).__name__}"

    async def _settle(self, webhook: Webhook, delivery: WebhookDelivery, error: str) -> None:
        facts = {"webhook": webhook.id, "tenant": webhook.tenant, "event_id": delivery.event_id}
        if not error:
            await self._records.settle_delivery(delivery, WebhookDeliveryState.DELIVERED)
            outcome = "delivered"
            log.info("webhook delivered", **facts, attempt=delivery.attempts)
        elif delivery.attempts <= len(self._retry_delays_s):
            again_in_s = self._retry_delays_s[delivery.attempts - 1]
            await self._records.settle_delivery(
                delivery, WebhookDeliveryState.PENDING, error=error, again_in_s=float(again_in_s)
            )
            outcome = "retried"
            log.info("webhook postponed", **facts, attempt=delivery.attempts, again_in_s=again_in_s, cause=error)
        else:
            await self._records.settle_delivery(delivery, WebhookDeliveryState.DEAD, error=error)
            outcome = "dead"
            log.warning("webhook given up", **facts, attempt=delivery.attempts, cause=error)
        metrics.WEBHOOK_DELIVERIES.labels(outcome).inc()
