"""Faults of a broker that the client library does not report."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from ingestion.adapters.kafka import producer as adapter
from ingestion.adapters.kafka import publisher
from ingestion.adapters.kafka.abort import close_producer
from ingestion.adapters.kafka.consumer import JobConsumer
from ingestion.adapters.kafka.producer import KafkaJobQueue
from ingestion.adapters.kafka.topics import ensure_topics
from ingestion.errors import DependencyUnavailable, WorkerFault
from ingestion.messages import HEADER_UNREADABLE, Partition, Record
from ingestion.model import IngestJob
from ingestion.settings import KafkaSettings, Settings
from tests.chaos.proxy import SILENT, Proxies, Proxy

pytestmark = pytest.mark.each_broker

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
    monkeypatch.setattr(publisher, "close_producer", partial(close_producer, timeout_s=0.5))
    with ExitStack() as faults:
        async with asyncio.timeout(DEADLINE_S), KafkaJobQueue(behind_proxy) as queue:
            await queue.publish(JOB)  # a connection that is made may take its time
            monkeypatch.setattr(adapter, "_SEND_TIMEOUT_S", 0.5)
            faults.enter_context(proxy.broken(SILENT))
            with pytest.raises(DependencyUnavailable, match="kafka"):
                await queue.publish(JOB)


async def test_the_loop_gets_an_error_when_its_client_left_the_group(
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


class NotText:
    """The name of a header that is no UTF-8, as other clients can write it."""

    def encode(self, encoding: str) -> bytes:
        return b"\xff\xfe"


async def publish_unreadable(kafka: KafkaSettings, partition: int, before: int) -> None:
    """`before` whole jobs and one record that cannot be read, in one batch."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka.kafka_bootstrap)
    await producer.start()
    try:
        batch = producer.create_batch()
        batch._builder = _DefaultRecordBatchBuilderPy(2, 0, 0, -1, -1, 0, 1 << 20)
        for number in range(before):
            batch.append(timestamp=None, key=b"k", value=f"whole {number}".encode())
        batch.append(timestamp=None, key=b"k", value=b"v", headers=[(NotText(), b"x")])
        batch.append(timestamp=None, key=b"k", value=b"in its shadow")
        await (await producer.send_batch(batch, kafka.kafka_jobs_topic, partition=partition))
    finally:
        await producer.stop()


async def test_a_record_that_the_client_cannot_read_is_one_record_and_none_of_the_others_is_lost(
    settings: Settings,
) -> None:
    kafka = settings.kafka.model_copy(update={"kafka_partitions": 3})
    await ensure_topics(kafka)
    await publish_unreadable(kafka, 1, before=3)
    await publish_unreadable(kafka, 2, before=0)
    async with KafkaJobQueue(kafka) as queue:
        for number in range(20):
            await queue.publish(IngestJob(f"d{number}", "c", "f.pdf"))

    async def ignore(partitions: set[Partition]) -> None:
        pass

    consumer, found = JobConsumer(kafka, "one"), list[Record]()
    await consumer.start(ignore, ignore)
    try:
        async with asyncio.timeout(DEADLINE_S):
            while len(found) < 20 + 3 + 2 + 2:
                found += await consumer.poll(100, 50)
        found += await consumer.poll(100, 500)
    finally:
        await consumer.stop()
    places = [(record.partition, record.offset) for record in found]
    assert len(places) == len(set(places)) == 27, "each once"
    for partition in range(3):
        offsets = [offset for (_, number), offset in places if number == partition]
        assert offsets == sorted(offsets), "in order"
    unreadable = [record for record in found if dict(record.headers).get(HEADER_UNREADABLE)]
    assert [(record.partition[1], record.offset, record.value) for record in sorted(unreadable, key=repr)] == [
        (1, 3, None),
        (1, 4, None),
        (2, 0, None),
        (2, 1, None),
    ]
