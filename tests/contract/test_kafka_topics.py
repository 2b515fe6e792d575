"""Topics on a broker that creates each topic that a client asks for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic

from ingestion.adapters.kafka import producer
from ingestion.adapters.kafka.producer import KafkaJobQueue
from ingestion.adapters.kafka.topic_check import topic_faults
from ingestion.adapters.kafka.topics import add_partitions, ensure_topics
from ingestion.errors import DependencyUnavailable
from ingestion.model import IngestJob
from ingestion.settings import KafkaSettings
from tests.support.broker_processes import Broker, running_broker
from tests.support.kafka_member import Member

DEADLINE_S = 60.0


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Broker]:
    async with running_broker(tmp_path_factory.mktemp("kafka"), **{"auto.create.topics.enable": "true"}) as broker:
        yield broker


@pytest.fixture
async def admin(broker: Broker) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.address)
    await admin.start()
    yield admin
    await admin.close()


def settings(broker: Broker, name: str) -> KafkaSettings:
    return KafkaSettings(
        kafka_bootstrap=broker.address,
        kafka_jobs_topic=f"{name}.jobs",
        kafka_events_topic=f"{name}.events",
        kafka_group=name,
        kafka_partitions=2,
        kafka_metadata_max_age_ms=1_000,
        retry_delays_s=(10,),
    )


async def test_neither_a_publish_nor_a_member_creates_a_topic(
    broker: Broker, admin: AIOKafkaAdminClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka = settings(broker, "absent")
    member = Member(kafka)
    await member.start()
    try:
        async with KafkaJobQueue(kafka) as queue:
            monkeypatch.setattr(producer, "_SEND_TIMEOUT_S", 2.0)
            with pytest.raises(DependencyUnavailable, match=r"missing topics: absent\.jobs; `pagemill topics ensure`"):
                await queue.publish(IngestJob("d", "c", "a.pdf"))
        await member.consumer.poll(1, 1_000)
    finally:
        await member.consumer.stop()
    assert not [topic for topic in await admin.list_topics() if topic.startswith("absent")]


async def test_a_member_takes_partitions_that_were_added_and_a_topic_that_came_back(
    broker: Broker, admin: AIOKafkaAdminClient
) -> None:
    kafka = settings(broker, "coming")
    await ensure_topics(kafka)
    member = Member(kafka)
    await member.start()
    try:
        await member.until_held(4)
        await admin.create_partitions({kafka.kafka_jobs_topic: NewPartitions(5)})
        await member.until_held(7)
        await admin.delete_topics([kafka.kafka_jobs_topic])
        await member.until_held(2)
        await ensure_topics(kafka)
        await member.until_held(4)
    finally:
        await member.consumer.stop()


async def test_topics_that_the_broker_created_by_itself_are_reported_with_their_remedies(
    broker: Broker, admin: AIOKafkaAdminClient
) -> None:
    kafka = settings(broker, "chance")
    await ensure_topics(settings(broker, "other"))
    assert await topic_faults(settings(broker, "other")) == []
    await admin.create_topics([NewTopic(topic, 1, 1) for topic in kafka.topics])
    async with asyncio.timeout(DEADLINE_S):
        while set(kafka.topics) - set(await admin.list_topics()):  # the broker sends no notice
            await asyncio.sleep(0.05)
    remedies = {(fault.topic, fault.remedy.rsplit(" ", 1)[1]) for fault in await topic_faults(kafka)}
    assert remedies == {
        (kafka.kafka_jobs_topic, "2"),
        (kafka.retry_topics[10], "2"),
        (kafka.dead_letter_topic, "retention.ms=-1"),
    }


async def test_several_may_add_partitions_at_once_and_none_is_added_to_larger_topics(
    broker: Broker, admin: AIOKafkaAdminClient
) -> None:
    kafka = settings(broker, "grown")
    await ensure_topics(kafka.model_copy(update={"kafka_partitions": 1}))
    await admin.create_partitions({kafka.retry_topics[10]: NewPartitions(3)})
    await asyncio.gather(*(add_partitions(kafka) for _ in range(5)))
    sizes = {one["topic"]: len(one["partitions"]) for one in await admin.describe_topics()}
    assert (sizes[kafka.kafka_jobs_topic], sizes[kafka.retry_topics[10]], sizes[kafka.dead_letter_topic]) == (2, 3, 1)
