"""The gauges of the whole installation, while a store does not answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pytest
from prometheus_client import REGISTRY

from ingestion.errors import DependencyUnavailable
from ingestion.model import DocumentState, EventType, WebhookDelivery, WebhookDeliveryState
from tests.memory import MemoryDocumentStore
from workers.installation_gauges import InstallationGauges, Schedule


class SilentCounts:
    """A document store that is down."""

    def __init__(self) -> None:
        self.requests = 0

    async def count_by_state(self) -> Mapping[DocumentState, int]:
        self.requests += 1
        raise DependencyUnavailable("mongodb", "it is down")

    async def oldest_unfinished_s(self) -> Mapping[DocumentState, float]:
        return {}


async def test_a_store_that_is_down_is_asked_in_each_round() -> None:
    """A round that asks nothing would look like the end of the outage."""
    counts, unused = SilentCounts(), cast(Any, None)
    gauges = InstallationGauges(counts, unused, unused, unused, documents_due=Schedule(3600.0))
    for _ in range(2):
        with pytest.raises(DependencyUnavailable):
            await gauges.round()
    assert counts.requests == 2


async def test_deliveries_that_are_not_delivered_are_counted() -> None:
    store, unused = MemoryDocumentStore(), cast(Any, None)
    await store.add_deliveries(
        [WebhookDelivery(id_, "w1", id_, EventType.READY, "{}") for id_ in ("a", "b", "c", "d")]
    )
    for id_, state in (("a", WebhookDeliveryState.DEAD), ("b", WebhookDeliveryState.DELIVERED)):
        claimed = await store.claim_delivery(store.state.deliveries[id_], 10.0)
        assert claimed is not None
        await store.settle_delivery(claimed, state)
    await InstallationGauges(store, store, unused, store).round()
    counts = [
        REGISTRY.get_sample_value("webhook_deliveries_undelivered", {"state": state}) for state in ("pending", "dead")
    ]
    assert counts == [2, 1]
