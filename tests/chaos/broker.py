"""Read the records of a run's topics and the committed offsets of its group, without joining the group."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    KafkaConnectionError,
    NodeNotReadyError,
    NotCoordinatorForGroupError,
)

from ingestion.messages import encode_job
from ingestion.model import IngestJob
from ingestion.settings import KafkaSettings

_READ_MS: Final = 200
_READ_LIMIT_S: Final = 20.0
_COORDINATOR_LIMIT_S: Final = 30.0
_ASK_AGAIN_S: Final = 0.2
_NO_COORDINATOR: Final = (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    KafkaConnectionError,
    NodeNotReadyError,
    NotCoordinatorForGroupError,
)

Key = str


class RunTopics:
    """The key of every record of the run's topics, by partition and offset. `refresh` reads new records."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._positions: dict[TopicPartition, int] = {}
        self._reading = asyncio.Lock()
        self.records: dict[TopicPartition, dict[int, Key]] = defaultdict(dict)
        self._letters: dict[str, Key] = {}

    async def __aenter__(self) -> Self:
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=self._settings.kafka_bootstrap, auto_offset_reset="earliest"
        )
        self._admin = AIOKafkaAdminClient(bootstrap_servers=self._settings.kafka_bootstrap)
        await self._consumer.start()
        self._consumer.assign(self._partitions())
        await self._admin.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._consumer.stop()
        await self._admin.close()

    async def refresh(self) -> None:
        """Read every topic of the run to its current end."""
        async with self._reading:
            await self._read()

    async def _read(self) -> None:
        partitions = self._partitions()
        self._consumer.resume(*partitions)
        behind = await self._consumer.end_offsets(partitions)
        async with asyncio.timeout(_READ_LIMIT_S):
            while behind := {at: end for at, end in behind.items() if self._positions.get(at, 0) < end}:
                for at, records in (await self._consumer.getmany(timeout_ms=_READ_MS)).items():
                    self._take(at, records)
        self._consumer.pause(*partitions)  # some brokers answer an empty fetch at once: do not poll in a tight loop

    def _take(self, at: TopicPartition, records: Sequence[Any]) -> None:
        self.records[at].update({found.offset: (found.key or b"").decode() for found in records})
        self._positions[at] = records[-1].offset + 1
        if at.topic == self._settings.dead_letter_topic:
            self._letters.update({_letter_id(found): found.key.decode() for found in records})

    async def publish_everywhere(self, jobs: Iterable[IngestJob]) -> None:
        """Publish each job to every partition of the jobs topic, so that every running worker gets it."""
        async with AIOKafkaProducer(bootstrap_servers=self._settings.kafka_bootstrap, acks="all") as producer:
            for key, value, headers in map(encode_job, jobs):
                for number in range(self._settings.kafka_partitions):
                    await producer.send_and_wait(self._settings.kafka_jobs_topic, value, key, number, headers=headers)

    async def committed(self) -> dict[TopicPartition, int]:
        """The committed offsets of the group, for partitions that have one.

        Brokers have no coordinator of the group for some time after their first start, and after each restart. The
        admin client then raises, or returns no partitions.
        """
        partitions = [at for at in self._partitions() if self._is_work(at.topic)]
        async with asyncio.timeout(_COORDINATOR_LIMIT_S):
            while True:
                with suppress(*_NO_COORDINATOR):
                    found = await self._admin.list_consumer_group_offsets(
                        self._settings.kafka_group, partitions=partitions
                    )
                    if len(found) == len(partitions):
                        return {at: offset.offset for at, offset in found.items() if offset.offset >= 0}
                await asyncio.sleep(_ASK_AGAIN_S)

    def letters(self) -> Counter[Key]:
        """Dead letters by key. A letter that a crash made the worker write twice has one id and counts once."""
        return Counter(self._letters.values())

    def announced(self) -> set[Key]:
        events = self._settings.kafka_events_topic
        return {key for at, records in self.records.items() if at.topic == events for key in records.values()}

    def waiting(self, committed: dict[TopicPartition, int]) -> set[Key]:
        """The keys of the uncommitted records, which `behind` counts."""
        return set(self._uncommitted(committed))

    def behind(self, committed: dict[TopicPartition, int]) -> int:
        """Number of uncommitted records in the group's topics."""
        return sum(1 for _ in self._uncommitted(committed))

    def _uncommitted(self, committed: dict[TopicPartition, int]) -> Iterator[Key]:
        for at, records in self.records.items():
            if self._is_work(at.topic):
                yield from (key for offset, key in records.items() if offset >= committed.get(at, 0))

    def _is_work(self, topic: str) -> bool:
        return topic == self._settings.kafka_jobs_topic or topic in self._settings.retry_topics.values()

    def _partitions(self) -> list[TopicPartition]:
        settings = self._settings
        work = [settings.kafka_jobs_topic, *settings.retry_topics.values()]
        return [
            *(TopicPartition(topic, number) for topic in work for number in range(settings.kafka_partitions)),
            *(TopicPartition(topic, 0) for topic in (settings.dead_letter_topic, settings.kafka_events_topic)),
        ]


def _letter_id(record: Any) -> str:
    return bytes(dict(record.headers)["__dlq.errors.letter.id"]).decode()
