"""A member of a consumer group, as a worker is one."""

from __future__ import annotations

import asyncio
from typing import Final

from ingestion.adapters.kafka.consumer import JobConsumer
from ingestion.adapters.kafka.producer import KafkaJobQueue
from ingestion.errors import DependencyUnavailable
from ingestion.messages import Partition
from ingestion.model import IngestJob
from ingestion.settings import KafkaSettings

_DEADLINE_S: Final = 60.0


class Member:
    """`held` are the partitions that it has now."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self.consumer = JobConsumer(kafka, "one")
        self.held: set[Partition] = set()

    async def _assigned(self, partitions: set[Partition]) -> None:
        self.held |= partitions

    async def _revoked(self, partitions: set[Partition]) -> None:
        self.held -= partitions

    async def start(self) -> None:
        await self.consumer.start(self._assigned, self._revoked)

    async def until_held(self, count: int) -> None:
        """Poll until it has so many partitions."""
        async with asyncio.timeout(_DEADLINE_S):
            while len(self.held) != count:
                await self.consumer.poll(1, 100)

    async def until_read(self, name: str) -> None:
        """Publish a job and poll until it comes, as the loop does: an outage ends no poll."""
        async with asyncio.timeout(_DEADLINE_S), KafkaJobQueue(self._kafka) as queue:
            await queue.publish(IngestJob(name, "c", "a.pdf"))
            while True:
                try:
                    records = await self.consumer.poll(10, 100)
                except DependencyUnavailable:
                    await asyncio.sleep(0.2)
                    continue
                if name in [record.job.document_id for record in records]:
                    return
