"""The members and the lag of the workers' consumer group, asked of the broker without joining it."""

from __future__ import annotations

from collections import Counter

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import for_code

from ingestion.adapters.kafka.admin import admin_client
from ingestion.adapters.kafka.client_options import consumer_options
from ingestion.adapters.kafka.client_start import start_client
from ingestion.adapters.kafka.membership import close_consumer
from ingestion.adapters.kafka.producer import translated
from ingestion.ports import GroupSnapshot
from ingestion.settings import KafkaSettings


class KafkaConsumerGroup:
    """Implements the port ConsumerGroup."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings

    async def snapshot(self) -> GroupSnapshot:
        settings = self._settings
        async with admin_client(settings) as admin:
            [answer] = await admin.describe_consumer_groups([settings.kafka_group])
            [group] = answer.to_object()["groups"]
            if code := group["error_code"]:
                raise for_code(code)(f"group {settings.kafka_group}")
            committed = await admin.list_consumer_group_offsets(settings.kafka_group)
            topics = {settings.kafka_jobs_topic, *settings.retry_topics.values()}
            found = [one for one in await admin.describe_topics() if one["topic"] in topics]
        partitions = [TopicPartition(one["topic"], part["partition"]) for one in found for part in one["partitions"]]
        lag: Counter[str] = Counter(dict.fromkeys(topics, 0))
        for at, (begin, end) in (await self._ranges(partitions)).items():
            known = committed.get(at)
            done = begin if known is None or known.offset < 0 else known.offset
            lag[at.topic] += max(0, end - max(begin, done))
        return GroupSnapshot(sorted({member["client_id"] for member in group["members"]}), dict(lag))

    async def _ranges(self, partitions: list[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        """By partition, the first offset and that after the last."""
        async with translated():
            consumer = AIOKafkaConsumer(**consumer_options(self._settings, enable_auto_commit=False))
            await start_client(consumer, self._settings)
            try:
                begins = await consumer.beginning_offsets(partitions)
                ends = await consumer.end_offsets(partitions)
            finally:
                await close_consumer(consumer)
        return {at: (begins[at], ends[at]) for at in partitions}
