"""Publishing after errors that only a real broker returns."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import pytest
import pytest_asyncio
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from ingestion.adapters.kafka.dead_letters import KafkaDeadLetters
from ingestion.adapters.kafka.producer import KafkaJobQueue
from ingestion.adapters.kafka.topics import ensure_topics
from ingestion.errors import DependencyUnavailable, MessageTooLarge
from ingestion.model import IngestJob
from ingestion.settings import KafkaSettings
from tests.port_contracts.job_queue import letter_of, record_of
from tests.support.broker_processes import Broker, running_broker

DEADLINE_S = 60.0


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Broker]:
    async with running_broker(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@pytest.fixture
async def kafka(broker: Broker, request: pytest.FixtureRequest) -> KafkaSettings:
    name = f"t{abs(hash(request.node.name))}"
    kafka = KafkaSettings(
        kafka_bootstrap=broker.address,
        kafka_jobs_topic=f"{name}.jobs",
        kafka_events_topic=f"{name}.events",
        kafka_partitions=2,
    )
    await ensure_topics(kafka)
    return kafka


@pytest.fixture
async def queue(kafka: KafkaSettings) -> AsyncIterator[KafkaJobQueue]:
    async with asyncio.timeout(DEADLINE_S), KafkaJobQueue(kafka) as queue:
        yield queue


async def configure(broker: Broker, topic: str, **configs: str) -> None:
    """Give the topic these settings, and no others of its own. They take effect some time after the return."""
    async with asyncio.timeout(DEADLINE_S):
        admin = AIOKafkaAdminClient(bootstrap_servers=broker.address)
        await admin.start()
        try:
            await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=configs)])
        finally:
            await admin.close()


async def partition_of(queue: KafkaJobQueue, job: IngestJob) -> int:
    producer = await queue._publisher.producer()
    key = job.document_id.encode()
    return int(producer._partition(queue._settings.kafka_jobs_topic, None, key, b"", key, b""))


def job(number: int) -> IngestJob:
    return IngestJob(f"document-{number}", "c", "a.pdf")


async def test_a_producer_publishes_again_after_a_message_that_was_out_of_order(
    queue: KafkaJobQueue, kafka: KafkaSettings
) -> None:
    for number in range(10):
        await queue.publish(job(number))
    producer = await queue._publisher.producer()
    for partition in range(2):
        producer._txn_manager.increment_sequence_number(TopicPartition(kafka.kafka_jobs_topic, partition), 5)
    results = await asyncio.gather(*(queue.publish(job(number)) for number in range(10)), return_exceptions=True)
    assert any(results), "not out of order"
    assert all(result is None or isinstance(result, DependencyUnavailable) for result in results)
    for number in range(10):
        await queue.publish(job(number))
    await queue.ping()


async def test_a_producer_that_was_fenced_is_replaced_and_publishes_again(
    queue: KafkaJobQueue, kafka: KafkaSettings
) -> None:
    await queue.publish(job(1))
    transactions = (await queue._publisher.producer())._txn_manager
    first = transactions._pid_and_epoch
    place = TopicPartition(kafka.kafka_jobs_topic, await partition_of(queue, job(1)))
    transactions._pid_and_epoch = first._replace(epoch=first.epoch + 1)
    transactions._sequence_numbers[place] = 0
    await queue.publish(job(1))
    transactions._pid_and_epoch = first  # the broker knows a later epoch: InvalidProducerEpoch
    with pytest.raises(DependencyUnavailable, match="ProducerFenced"):
        await queue.publish(job(1))
    await queue.publish(job(1))
    await queue.ping()


async def test_a_ping_fails_while_messages_are_refused_although_the_broker_answers(
    queue: KafkaJobQueue, kafka: KafkaSettings, broker: Broker
) -> None:
    await queue.publish(job(1))
    # 0: each message is too old when it arrives
    await configure(broker, kafka.kafka_jobs_topic, **{"message.timestamp.before.max.ms": "0"})
    with pytest.raises(DependencyUnavailable, match="Timestamp"):
        while True:
            await queue.publish(job(2))
    with pytest.raises(DependencyUnavailable, match=f"publishing on {kafka.kafka_jobs_topic} fails: .*Timestamp"):
        await queue.ping()
    await configure(broker, kafka.kafka_jobs_topic)
    while True:
        with suppress(DependencyUnavailable):
            await queue.publish(job(3))
            break
    await queue.ping()


async def test_a_message_that_a_topic_does_not_take_is_one_clear_error_and_the_next_one_is_published(
    queue: KafkaJobQueue, kafka: KafkaSettings, broker: Broker
) -> None:
    await queue.publish(job(1))
    await configure(broker, kafka.kafka_jobs_topic, **{"max.message.bytes": "2000"})
    with pytest.raises(MessageTooLarge, match=rf"{kafka.kafka_jobs_topic} refuses .* max\.message\.bytes"):
        while True:
            await queue.publish(replace(job(1), filename="a" * 3_000))
    await queue.ping()
    for number in range(10):
        await queue.publish(job(number))


@asynccontextmanager
async def limited_letters(
    kafka: KafkaSettings, limit_bytes: int
) -> AsyncIterator[tuple[KafkaSettings, KafkaJobQueue]]:
    """A queue whose dead-letter topic takes messages of at most `limit_bytes`."""
    own = kafka.model_copy(update={"kafka_jobs_topic": f"{kafka.kafka_jobs_topic}.{limit_bytes}"})
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.kafka_bootstrap)
    await admin.start()
    limit = {"max.message.bytes": str(limit_bytes)}
    await admin.create_topics([NewTopic(own.dead_letter_topic, 1, 1, topic_configs=limit)])
    await admin.close()
    await ensure_topics(own)
    async with asyncio.timeout(DEADLINE_S), KafkaJobQueue(own) as queue:
        yield own, queue


async def test_a_dead_letter_that_is_too_large_is_kept_without_its_stack_trace(kafka: KafkaSettings) -> None:
    letter = replace(letter_of(record_of()), stacktrace="line\n" * 1_000)
    async with limited_letters(kafka, 2_000) as (own, queue):
        await queue.publish_dead_letter(letter)
        [found] = [one async for one in KafkaDeadLetters(own).read()]
    assert (found.id, found.value, found.stacktrace) == (letter.id, letter.value, "")


@pytest.mark.parametrize(
    ("limit_bytes", "value_bytes"), [(2_000, 1_900), (1_048_588, 1_048_000)], ids=["at the broker", "at the client"]
)
async def test_a_record_that_alone_fills_the_dead_letter_topic_is_a_letter_that_says_where_the_whole_one_is(
    kafka: KafkaSettings, limit_bytes: int, value_bytes: int
) -> None:
    record = replace(record_of(), value=os.urandom(value_bytes), headers=(("theirs", b"x" * 200),))
    letter = replace(letter_of(record), document_id="")
    async with limited_letters(kafka, limit_bytes) as (own, queue):
        await queue.publish_dead_letter(letter)
        [found] = [one async for one in KafkaDeadLetters(own).read()]
        await queue.ping()
    assert (found.id, found.key, found.origin) == (letter.id, letter.key, letter.origin)
    assert found.value
    assert (record.value or b"").startswith(found.value)
    assert found.whole_bytes == len(record.key or b"") + value_bytes


async def test_a_ping_names_a_topic_that_is_missing_and_the_client_does_not_create_it(
    queue: KafkaJobQueue, kafka: KafkaSettings, broker: Broker
) -> None:
    await queue.ping()
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.address)
    await admin.start()
    try:
        await admin.delete_topics([kafka.kafka_events_topic])
        with pytest.raises(
            DependencyUnavailable, match=f"missing topics: {kafka.kafka_events_topic}; `pagemill topics"
        ):
            async with asyncio.timeout(DEADLINE_S):
                while True:
                    await queue.ping()
        assert kafka.kafka_events_topic not in await admin.list_topics()
    finally:
        await admin.close()
