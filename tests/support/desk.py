"""A replayer of dead letters on real servers, and documents that fail in several ways."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from aiokafka import AIOKafkaConsumer

from ingestion.adapters.kafka.producer import KafkaJobQueue
from ingestion.adapters.mongo.document_store import MongoDocumentStore
from ingestion.adapters.redis.progress import RedisProgress
from ingestion.dead_letters import DeadLetter, of_document, of_record
from ingestion.errors import BadMessage
from ingestion.messages import HEADER_DUE_MS, HEADER_ORIGIN, Record, encode_job
from ingestion.model import Document, DocumentState, Failure, IngestJob
from ingestion.replay.replayer import Replayer
from ingestion.replay.selection import Selection
from ingestion.settings import KafkaSettings
from tests.support.documents import LEASE_MS, document

GONE = Failure("source_missing", "fetch", "the uploaded file is gone")
THEIRS = ("traceparent", b"00-\xff")
"""A header of a job that another program has set."""
_DEADLINE_S = 30.0


@dataclass(frozen=True)
class Desk:
    """A replayer and its stores."""

    kafka: KafkaSettings
    documents: MongoDocumentStore
    queue: KafkaJobQueue
    progress: RedisProgress
    replayer: Replayer

    async def dead(self, id_: str = "d1", collection: str = "c", failure: Failure = GONE) -> DeadLetter:
        """The letter of a document that was inserted, claimed, and failed."""
        await self.documents.insert(replace(document(id_, collection), filename=f"{id_}.pdf"))
        await self.documents.mark_queued(document(id_))
        return await self.dies(id_, failure)

    async def dies(self, id_: str, failure: Failure = GONE) -> DeadLetter:
        """The letter of a queued document that is claimed, and fails on a retry."""
        claimed = await self.documents.claim(id_, "w1", LEASE_MS)
        failed = await self.documents.fail(id_, claimed.fence, failure)
        letter = of_document(failed, retry_of(failed), "group", None)
        await self.queue.publish_dead_letter(letter)
        await self.documents.mark_dead_letter_sent(id_, failed.fence)
        return letter

    async def bad_message(self) -> DeadLetter:
        record = Record((self.kafka.kafka_jobs_topic, 0), 7, None, b"\xff no job", (THEIRS,))
        letter = of_record(record, "group", BadMessage("message is not JSON"))
        await self.queue.publish_dead_letter(letter)
        return letter

    async def state(self, id_: str) -> DocumentState:
        return (await self.read(id_)).state

    async def read(self, id_: str) -> Document:
        found = await self.documents.get(id_)
        assert found is not None
        return found

    async def statuses(self) -> dict[str, str]:
        return {entry.letter.id: entry.status.value for entry in await self.replayer.find(Selection())}

    async def published(self) -> list[tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]]:
        """Key, value and headers of everything that is on the jobs topic."""
        consumer = AIOKafkaConsumer(
            self.kafka.kafka_jobs_topic, bootstrap_servers=self.kafka.kafka_bootstrap, auto_offset_reset="earliest"
        )
        await consumer.start()
        try:
            count = sum((await consumer.end_offsets(consumer.assignment())).values())
            found: list[tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]] = []
            async with asyncio.timeout(_DEADLINE_S):
                while len(found) < count:
                    for records in (await consumer.getmany(timeout_ms=100)).values():
                        found += [(record.key, record.value, list(record.headers)) for record in records]
            return found
        finally:
            await consumer.stop()


def job_of(failed: Document) -> tuple[bytes, bytes, list[tuple[str, bytes]]]:
    return encode_job(IngestJob.of(failed))


def retry_of(failed: Document) -> Record:
    """The job as it came from a retry topic, and with a header of another program."""
    key, value, headers = job_of(failed)
    put_off = [(HEADER_ORIGIN, b"jobs:1:42"), (HEADER_DUE_MS, b"1")]
    return Record(("jobs-retry-10000", 3), 17, key, value, (*headers, THEIRS, *put_off))
