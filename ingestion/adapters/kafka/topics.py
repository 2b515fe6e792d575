"""Create and remove the Kafka topics."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.errors import InvalidPartitionsError, TopicAlreadyExistsError, for_code

from ingestion.adapters.kafka.admin import admin_client
from ingestion.adapters.kafka.producer import REQUEST_TIMEOUT_MS
from ingestion.settings import KafkaSettings

_LIST_EVERY_S: Final = 0.05
_FOR_EVER: Final = {"retention.ms": "-1"}


async def ensure_topics(settings: KafkaSettings) -> None:
    """Create missing topics, and wait until the broker knows them. Existing topics stay as they are.

    Raises DependencyRefused, DependencyUnavailable.
    """
    async with admin_client(settings) as admin:
        existing = set(await admin.list_topics())
        if missing := [topic for topic in _wanted(settings) if topic.name not in existing]:
            _check(await admin.create_topics(missing))
            await _until_listed(admin, {topic.name for topic in missing})


async def remove_topics(settings: KafkaSettings) -> None:
    """Delete the topics of `settings`, with their records. Missing ones are no error.

    For topics of a scratch installation. Raises DependencyRefused, DependencyUnavailable.
    """
    async with admin_client(settings) as admin:
        existing = set(await admin.list_topics())
        if names := [topic.name for topic in _wanted(settings) if topic.name in existing]:
            for topic, code in (await admin.delete_topics(names)).topic_error_codes:
                if code:
                    raise for_code(code)(f"deleting topic {topic}")


async def add_partitions(settings: KafkaSettings) -> None:
    """Give the topics of jobs that have fewer partitions than the settings the missing ones, and wait for them.

    A document's jobs may change their partition: no order is lost, because the ledger decides who works on a document.
    Safe to repeat, also by several processes at once. Raises DependencyRefused, DependencyUnavailable.
    """
    wanted = NewPartitions(settings.kafka_partitions)
    async with admin_client(settings) as admin, asyncio.timeout(REQUEST_TIMEOUT_MS / 1000):
        while lacking := await _with_fewer_partitions(admin, settings):
            try:
                await admin.create_partitions(dict.fromkeys(lacking, wanted))
            except InvalidPartitionsError:
                # The controller has them, from another process or the last round, and this broker does not know yet.
                await asyncio.sleep(_LIST_EVERY_S)


async def _with_fewer_partitions(admin: AIOKafkaAdminClient, settings: KafkaSettings) -> list[str]:
    """As the broker knows them, later than the controller."""
    jobs = {settings.kafka_jobs_topic, *settings.retry_topics.values()}
    return [
        one["topic"]
        for one in await admin.describe_topics()
        if one["topic"] in jobs and len(one["partitions"]) < settings.kafka_partitions
    ]


async def _until_listed(admin: AIOKafkaAdminClient, topics: set[str]) -> None:
    """Wait until a request for metadata finds the topics: the controller creates them before its brokers know them.

    A consumer that subscribes before that gets no partitions until its next request for metadata, minutes later.
    """
    async with asyncio.timeout(REQUEST_TIMEOUT_MS / 1000):
        while topics - set(await admin.list_topics()):  # noqa: ASYNC110  # the broker sends no notice
            await asyncio.sleep(_LIST_EVERY_S)


def _wanted(settings: KafkaSettings) -> list[NewTopic]:
    jobs = [settings.kafka_jobs_topic, *settings.retry_topics.values()]
    return [
        *(_topic(settings, name, settings.kafka_partitions) for name in jobs),
        _topic(settings, settings.kafka_events_topic, 1),
        # A dead letter waits for a person without a time limit.
        _topic(settings, settings.dead_letter_topic, 1, _FOR_EVER),
    ]


def _topic(settings: KafkaSettings, name: str, partitions: int, config: dict[str, str] | None = None) -> NewTopic:
    return NewTopic(
        name, num_partitions=partitions, replication_factor=settings.kafka_replication, topic_configs=config or {}
    )


def _check(response: Any) -> None:
    for topic, code, *rest in response.topic_errors:
        kind = for_code(code)
        if code and kind is not TopicAlreadyExistsError:
            raise kind(f"creating topic {topic}: {rest[0] if rest else ''}")
