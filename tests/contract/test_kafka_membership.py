"""A member that gets nothing although the broker is well, and brokers that go and come back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ingestion.adapters.kafka.consumer import JobConsumer
from ingestion.adapters.kafka.producer import KafkaJobQueue
from ingestion.adapters.kafka.topics import ensure_topics
from ingestion.errors import DependencyUnavailable, WorkerFault
from ingestion.messages import Partition
from ingestion.model import IngestJob
from ingestion.settings import KafkaSettings
from tests.support.broker_processes import Broker, three_brokers

DEADLINE_S = 60.0
SESSION_MS = 6_000


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    broker = Broker(tmp_path / "broker")
    broker.start()
    try:
        await broker.ready()
        yield broker
    finally:
        broker.kill()


@pytest.fixture
async def kafka(broker: Broker) -> KafkaSettings:
    kafka = KafkaSettings(
        kafka_bootstrap=broker.address,
        kafka_partitions=2,
        kafka_session_timeout_ms=SESSION_MS,
        kafka_silence_s=3.0,
        retry_delays_s=(10,),
    )
    await ensure_topics(kafka)
    return kafka


class Member:
    def __init__(self, kafka: KafkaSettings) -> None:
        self.consumer = JobConsumer(kafka, "one")
        self.held: set[Partition] = set()

    async def _assigned(self, partitions: set[Partition]) -> None:
        self.held |= partitions

    async def _revoked(self, partitions: set[Partition]) -> None:
        self.held -= partitions

    async def start(self) -> None:
        await self.consumer.start(self._assigned, self._revoked)

    async def until_read(self, kafka: KafkaSettings, name: str) -> None:
        """Publish a job and poll until it comes, as the loop does: an outage ends no poll."""
        async with asyncio.timeout(DEADLINE_S), KafkaJobQueue(kafka) as queue:
            await queue.publish(IngestJob(name, "c", "a.pdf"))
            while True:
                try:
                    records = await self.consumer.poll(10, 100)
                except DependencyUnavailable:
                    await asyncio.sleep(0.2)
                    continue
                if name in [record.job.document_id for record in records]:
                    return


def stop_fetching(member: Member) -> None:
    member.consumer._consumer._fetcher._fetch_task.cancel()


async def test_a_member_whose_fetches_have_ended_without_an_error_joins_again(kafka: KafkaSettings) -> None:
    member = Member(kafka)
    await member.start()
    try:
        await member.until_read(kafka, "first")
        stop_fetching(member)
        await member.until_read(kafka, "second")  # a request that was under way may still bring this one
        await member.until_read(kafka, "third")
        assert len(member.held) == 4
    finally:
        await member.consumer.stop()


async def test_a_member_that_gets_nothing_after_joining_again_ends_the_worker(kafka: KafkaSettings) -> None:
    member = Member(kafka.model_copy(update={"kafka_silence_s": 0.5}))
    await member.start()
    try:
        with pytest.raises(WorkerFault, match="also after joining the group again"):
            async with asyncio.timeout(DEADLINE_S):
                while True:
                    if member.held:
                        stop_fetching(member)
                    await member.consumer.poll(1, 50)
    finally:
        await member.consumer.stop()


async def test_a_member_reads_on_when_the_broker_was_away_for_longer_than_its_session(
    kafka: KafkaSettings, broker: Broker
) -> None:
    member = Member(kafka)
    await member.start()
    try:
        await member.until_read(kafka, "before")
        broker.kill()
        deadline_s = asyncio.get_running_loop().time() + 2 * SESSION_MS / 1000
        while asyncio.get_running_loop().time() < deadline_s:
            try:
                await member.consumer.poll(1, 100)
            except DependencyUnavailable:
                await asyncio.sleep(0.2)
        broker.start()
        await broker.ready()
        await member.until_read(kafka, "after")
    finally:
        await member.consumer.stop()


async def test_a_member_reads_on_when_the_broker_of_its_coordinator_has_died(tmp_path: Path) -> None:
    brokers = three_brokers(tmp_path)
    try:
        for broker in brokers:
            broker.start()
        for broker in brokers:
            await broker.ready()
        kafka = KafkaSettings(
            kafka_bootstrap=",".join(broker.address for broker in brokers),
            kafka_replication=3,
            kafka_partitions=3,
            kafka_session_timeout_ms=SESSION_MS,
            retry_delays_s=(10,),
        )
        await created(kafka)
        member = Member(kafka)
        await member.start()
        try:
            await member.until_read(kafka, "before")
            coordinator = member.consumer._consumer._coordinator.coordinator_id
            next(broker for broker in brokers if broker.number == coordinator).kill()
            await member.until_read(kafka, "after")
        finally:
            await member.consumer.stop()
    finally:
        for broker in brokers:
            broker.kill()


async def created(kafka: KafkaSettings) -> None:
    """Create the topics. A cluster refuses three replicas until all its brokers have registered."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                await ensure_topics(kafka)
                return
            except DependencyUnavailable:
                await asyncio.sleep(0.5)
