"""A broker that fails in ways of which the client library says nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from ingestion.adapters import kafka as adapter
from ingestion.adapters.kafka import KafkaJobQueue
from ingestion.adapters.kafka_consumer import JobConsumer
from ingestion.adapters.kafka_topics import ensure_topics
from ingestion.errors import DependencyUnavailable, WorkerFault
from ingestion.messages import Partition
from ingestion.model import IngestJob
from ingestion.settings import KafkaSettings, Settings
from tests.chaos.proxy import SILENT, Proxies, Proxy

DEADLINE_S = 30.0
JOB = IngestJob("document", "c", "a.pdf")


@pytest.fixture
def proxy(settings: Settings) -> Iterator[Proxy]:
    with Proxies() as proxies:
        yield proxies.to(settings.kafka.kafka_bootstrap, is_kafka=True)


@pytest.fixture
async def behind_proxy(settings: Settings, proxy: Proxy) -> KafkaSettings:
    await ensure_topics(settings.kafka)
    return settings.kafka.model_copy(update={"kafka_bootstrap": f"127.0.0.1:{proxy.port}"})


async def test_a_broker_that_says_nothing_holds_up_neither_an_upload_nor_the_end(
    behind_proxy: KafkaSettings, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "_SEND_TIMEOUT_S", 0.5)
    monkeypatch.setattr(adapter, "_STOP_TIMEOUT_S", 0.5)
    with ExitStack() as faults:
        async with asyncio.timeout(DEADLINE_S), KafkaJobQueue(behind_proxy) as queue:
            await queue.publish(JOB)
            faults.enter_context(proxy.broken(SILENT))
            with pytest.raises(DependencyUnavailable, match="kafka"):
                await queue.publish(JOB)


async def test_a_worker_whose_client_has_given_up_the_group_is_told(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ensure_topics(settings.kafka)
    consumer, held = JobConsumer(settings.kafka, "one"), asyncio.Event()

    async def assigned(partitions: set[Partition]) -> None:
        held.set()

    async def revoked(partitions: set[Partition]) -> None:
        pass

    async def broken() -> None:
        raise RuntimeError("a fault of the client library")

    await consumer.start(assigned, revoked)
    try:
        async with asyncio.timeout(DEADLINE_S):
            await held.wait()
            monkeypatch.setattr(consumer._consumer._coordinator, "ensure_coordinator_known", broken)
            consumer._consumer._coordinator.request_rejoin()
            with pytest.raises(WorkerFault, match="a fault of the client library"):
                while True:
                    with suppress(DependencyUnavailable):  # the polls at which it happens
                        await consumer.poll(1, 50)
    finally:
        await consumer.stop()
