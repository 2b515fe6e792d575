"""Publishing and consuming on a real broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaConsumer

from ingestion.adapters.kafka.consumer import JobConsumer
from ingestion.adapters.kafka.group_topics import unassigned_topics
from ingestion.adapters.kafka.producer import KafkaJobQueue
from ingestion.adapters.kafka.topics import ensure_topics
from ingestion.errors import DependencyUnavailable
from ingestion.messages import Partition, Record, decode_job
from ingestion.model import IngestJob
from ingestion.settings import KafkaSettings, Settings
from tests.port_contracts.job_queue import JobQueueContract, ReadTopic

pytestmark = pytest.mark.each_broker

DEADLINE_S = 30.0


@pytest.fixture
async def kafka(settings: Settings) -> KafkaSettings:
    await ensure_topics(settings.kafka)
    return settings.kafka


@pytest.fixture
async def queue(kafka: KafkaSettings) -> AsyncIterator[KafkaJobQueue]:
    async with KafkaJobQueue(kafka) as queue:
        yield queue


@pytest.fixture
def read_topic(kafka: KafkaSettings) -> ReadTopic:
    async def read(topic: str) -> list[Record]:
        found: list[Record] = []
        async with (
            asyncio.timeout(DEADLINE_S),
            AIOKafkaConsumer(topic, bootstrap_servers=kafka.kafka_bootstrap, auto_offset_reset="earliest") as consumer,
        ):
            ends = await consumer.end_offsets(consumer.assignment())
            while len(found) < sum(ends.values()):
                for partition, records in (await consumer.getmany(timeout_ms=200)).items():
                    found += [
                        Record(tuple(partition), one.offset, one.key, one.value, tuple(one.headers)) for one in records
                    ]
        return found

    return read


class TestKafkaJobQueue(JobQueueContract): ...


class Member:
    """A consumer that records its assignments."""

    def __init__(self, settings: KafkaSettings, name: str) -> None:
        self.consumer = JobConsumer(settings, name)
        self.held: set[Partition] = set()
        self.records: list[Record] = []

    async def start(self) -> Member:
        await self.consumer.start(self._assigned, self._revoked)
        return self

    async def _assigned(self, partitions: set[Partition]) -> None:
        self.held |= partitions

    async def _revoked(self, partitions: set[Partition]) -> None:
        self.held -= partitions

    async def read(self, count: int) -> list[Record]:
        async with asyncio.timeout(DEADLINE_S):
            while len(self.records) < count:
                self.records += await self.consumer.poll(10, 100)
        return self.records


def jobs(count: int) -> list[IngestJob]:
    return [IngestJob(f"document-{number}", "c", f"{number} ü.pdf") for number in range(count)]


async def test_creating_topics_twice_is_the_same_as_once(kafka: KafkaSettings) -> None:
    await ensure_topics(kafka)


async def test_every_published_job_is_read_once_and_a_document_keeps_its_partition(
    kafka: KafkaSettings, queue: KafkaJobQueue
) -> None:
    for job in jobs(30) + jobs(30):
        await queue.publish(job)
    member = await Member(kafka, "one").start()
    try:
        records = await member.read(60)
    finally:
        await member.consumer.stop()
    assert sorted(decode_job(record.value).document_id for record in records) == sorted(
        job.document_id for job in jobs(30) + jobs(30)
    )
    places: dict[bytes | None, set[Partition]] = {}
    for record in records:
        places.setdefault(record.key, set()).add(record.partition)
    assert all(len(partitions) == 1 for partitions in places.values())
    assert len(set().union(*places.values())) > 1


async def test_uncommitted_records_are_read_again(kafka: KafkaSettings, queue: KafkaJobQueue) -> None:
    for job in jobs(20):
        await queue.publish(job)
    first = await Member(kafka, "first").start()
    records = await first.read(20)
    partition = records[0].partition
    there = [record for record in records if record.partition == partition]
    await first.consumer.commit({partition: there[0].offset + 1})
    await first.consumer.stop()
    second = await Member(kafka, "second").start()
    try:
        again = await second.read(19)
    finally:
        await second.consumer.stop()
    assert len(again) == 19
    assert (partition, there[0].offset) not in {(record.partition, record.offset) for record in again}


async def test_a_paused_member_gets_nothing_and_loses_nothing(kafka: KafkaSettings, queue: KafkaJobQueue) -> None:
    member = await Member(kafka, "one").start()
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not member.held:
                await member.consumer.poll(1, 50)
        member.consumer.pause_only(member.held)
        for job in jobs(5):
            await queue.publish(job)
        for _ in range(5):
            assert await member.consumer.poll(10, 50) == []
        member.consumer.pause_only(set())
        assert len(await member.read(5)) == 5
    finally:
        await member.consumer.stop()


async def test_a_second_member_takes_over_partitions_and_each_has_one_owner(kafka: KafkaSettings) -> None:
    everything = kafka.kafka_partitions * (1 + len(kafka.retry_topics))
    one = await Member(kafka, "one").start()
    two = await Member(kafka, "two").start()
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not (one.held and two.held and len(one.held | two.held) == everything):
                await asyncio.gather(one.consumer.poll(1, 50), two.consumer.poll(1, 50))
        assert not one.held & two.held
    finally:
        await two.consumer.stop()
        await one.consumer.stop()


async def test_a_topic_of_which_no_member_has_a_partition_is_named(kafka: KafkaSettings) -> None:
    member = await Member(kafka, "one").start()
    wider = kafka.model_copy(update={"retry_delays_s": (*kafka.retry_delays_s, 77)})
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not member.held:
                await member.consumer.poll(1, 50)
        assert await unassigned_topics(wider) == {wider.retry_topics[77]}
        assert await unassigned_topics(kafka) == set()
    finally:
        await member.consumer.stop()
    assert await unassigned_topics(wider) is None, "without a member nothing is wrong with one topic"


async def test_a_broker_that_is_not_there_is_a_dependency_that_is_down() -> None:
    nowhere = KafkaSettings(kafka_bootstrap="127.0.0.1:1")
    async with KafkaJobQueue(nowhere) as queue:
        with pytest.raises(DependencyUnavailable, match="kafka is unavailable"):
            await queue.publish(jobs(1)[0])
        with pytest.raises(DependencyUnavailable):
            await queue.ping()
    with pytest.raises(DependencyUnavailable):
        await ensure_topics(nowhere)
    with pytest.raises(DependencyUnavailable):
        await unassigned_topics(nowhere)
