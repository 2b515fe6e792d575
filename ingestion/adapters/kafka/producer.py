"""Kafka through aiokafka: publishing jobs, their retries and dead letters, and events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Final, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from ingestion import dead_letters
from ingestion.concurrency.deadline import limit_s
from ingestion.dead_letters import DeadLetter
from ingestion.errors import DependencyUnavailable, IngestError
from ingestion.messages import Headers, Record, encode_event, encode_job, first_headers, retry_headers
from ingestion.model import Document, IngestJob
from ingestion.settings import KafkaSettings

DEPENDENCY: Final = "kafka"
REQUEST_TIMEOUT_MS: Final = 10_000
_SEND_TIMEOUT_S: Final = 10.0
_STOP_TIMEOUT_S: Final = 5.0


def translate(error: BaseException) -> IngestError:
    """What the pipeline calls an exception of aiokafka or of the socket below it.

    Whatever the broker refuses, for a lack of rights or of replicas perhaps, no job is at fault.
    """
    return DependencyUnavailable(DEPENDENCY, f"{type(error).__name__}: {error}")


@asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """No exception of the client library leaves the block."""
    try:
        yield
    except (KafkaError, OSError, TimeoutError) as error:
        raise translate(error) from error


class KafkaJobQueue:
    """JobQueue over an idempotent producer with acks=all. Connects at the first use, again after a failed start."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._producer is not None:
            # What was acknowledged is safe, and nothing else was promised; without a broker it would wait for ever.
            with suppress(KafkaError, TimeoutError):
                async with asyncio.timeout(_STOP_TIMEOUT_S):
                    await self._producer.stop()

    async def publish(self, job: IngestJob) -> None:
        await self._send(self._settings.kafka_jobs_topic, *encode_job(job))

    async def announce(self, document: Document) -> None:
        await self._send(self._settings.kafka_events_topic, *encode_event(document))

    async def retry(self, record: Record, delay_s: int) -> None:
        topic = self._settings.retry_topics[delay_s]
        await self._send(topic, record.key, record.value, retry_headers(record, delay_s * 1000))

    async def publish_dead_letter(self, letter: DeadLetter) -> None:
        await self._send(self._settings.dead_letter_topic, *dead_letters.encode(letter))

    async def replay(self, letter: DeadLetter) -> None:
        headers = first_headers(letter.headers)
        await self._send(self._settings.kafka_jobs_topic, letter.key, letter.value, headers)

    async def ping(self) -> None:
        async with translated():
            producer = await self._started()
            await producer.client.fetch_all_metadata()

    async def _send(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        # An idempotent producer tries for as long as it takes. What it is left with is sent once the broker is back:
        # whoever sends it again by then does what every consumer is prepared for.
        async with translated(), asyncio.timeout(limit_s(DEPENDENCY, _SEND_TIMEOUT_S)):
            producer = await self._started()
            await producer.send_and_wait(topic, value=value, key=key, headers=headers)

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    bootstrap_servers=self._settings.kafka_bootstrap,
                    acks="all",
                    enable_idempotence=True,
                    request_timeout_ms=REQUEST_TIMEOUT_MS,
                )
                try:
                    await producer.start()
                except BaseException:
                    await producer.stop()
                    raise
                self._producer = producer
            return self._producer
