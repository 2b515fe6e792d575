"""A member that gets nothing although the broker is well, and brokers that go and come back."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from ingestion.adapters.kafka.topics import ensure_topics
from ingestion.errors import DependencyUnavailable, WorkerFault
from ingestion.settings import KafkaSettings
from tests.support.broker_processes import Broker, running_broker, three_brokers
from tests.support.kafka_member import Member

DEADLINE_S = 60.0
SESSION_MS = 6_000
POLL_INTERVAL_MS = 1_000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Broker]:
    async with running_broker(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


@pytest.fixture
async def kafka(broker: Broker) -> KafkaSettings:
    """Topics and a group of the test's own."""
    name = secrets.token_hex(4)
    kafka = KafkaSettings(
        kafka_bootstrap=broker.address,
        kafka_jobs_topic=f"{name}.jobs",
        kafka_events_topic=f"{name}.events",
        kafka_group=name,
        kafka_partitions=2,
        kafka_session_timeout_ms=SESSION_MS,
        kafka_silence_s=3.0,
        retry_delays_s=(10,),
    )
    await ensure_topics(kafka)
    return kafka


def stop_fetching(member: Member) -> None:
    member.consumer._consumer._fetcher._fetch_task.cancel()


async def test_a_member_whose_fetches_have_ended_without_an_error_joins_again(kafka: KafkaSettings) -> None:
    member = Member(kafka)
    await member.start()
    try:
        await member.until_read("first")
        stop_fetching(member)
        await member.until_read("second")  # a request that was under way may still bring this one
        await member.until_read("third")
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


async def test_a_member_that_stops_polling_is_expelled_and_joins_again_when_it_polls(kafka: KafkaSettings) -> None:
    """Its heartbeats continue. Only `max.poll.interval.ms` shows that its loop stands still."""
    slow, quick = Member(kafka.model_copy(update={"kafka_max_poll_interval_ms": POLL_INTERVAL_MS})), Member(kafka)
    await slow.start()
    try:
        await slow.until_held(4)
        await quick.start()
        await quick.until_held(4)
        await quick.until_read("while the other one stands still")
        await asyncio.gather(slow.until_held(2), quick.until_held(2))
    finally:
        await slow.consumer.stop()
        await quick.consumer.stop()


async def test_a_member_reads_on_when_the_broker_was_away_for_longer_than_its_session(
    kafka: KafkaSettings, broker: Broker
) -> None:
    member = Member(kafka)
    await member.start()
    try:
        await member.until_read("before")
        broker.kill()
        deadline_s = asyncio.get_running_loop().time() + 2 * SESSION_MS / 1000
        while asyncio.get_running_loop().time() < deadline_s:
            try:
                await member.consumer.poll(1, 100)
            except DependencyUnavailable:
                await asyncio.sleep(0.2)
        broker.start()
        await broker.ready()
        await member.until_read("after")
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
            await member.until_read("before")
            coordinator = member.consumer._consumer._coordinator.coordinator_id
            next(broker for broker in brokers if broker.number == coordinator).kill()
            await member.until_read("after")
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
