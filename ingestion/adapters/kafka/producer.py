"""Publish jobs, retries, dead letters and events to Kafka, through aiokafka."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Final, Self

import structlog
from aiokafka import AIOKafkaProducer

from ingestion import dead_letters, metrics
from ingestion.adapters.kafka.client_options import producer_options
from ingestion.adapters.kafka.client_start import start_client
from ingestion.adapters.kafka.publisher import Publisher
from ingestion.adapters.kafka.refusals import CLIENT_ERRORS, DEPENDENCY, explained, translate
from ingestion.concurrency.deadline import limit_s
from ingestion.dead_letters import DeadLetter
from ingestion.errors import DependencyUnavailable, MessageTooLarge
from ingestion.messages import Headers, Record, encode_event, encode_job, first_headers, retry_headers
from ingestion.model import Document, IngestJob
from ingestion.settings import KafkaSettings
from ingestion.tracing import NO_ORIGIN, Origin, publishing

log = structlog.get_logger(__name__)

REQUEST_TIMEOUT_MS: Final = 10_000
_SEND_TIMEOUT_S: Final = 10.0


@asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """Translate the client library's exceptions that leave the block."""
    try:
        yield
    except CLIENT_ERRORS as error:
        raise translate(error) from error


class KafkaJobQueue:
    """Implements the port JobQueue: an idempotent producer with acks=all. Connects at the first request."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._publisher = Publisher(self._start_producer)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._publisher.close()

    async def publish(self, job: IngestJob) -> None:
        origin = Origin(job.request_id, job.traceparent)
        await self._send(self._settings.kafka_jobs_topic, *encode_job(job), origin)

    async def announce(self, document: Document) -> None:
        await self._send(self._settings.kafka_events_topic, *encode_event(document))

    async def retry(self, record: Record, delay_s: int) -> None:
        topic = self._settings.retry_topics[delay_s]
        await self._send(topic, record.key, record.value, retry_headers(record, delay_s * 1000))

    async def publish_dead_letter(self, letter: DeadLetter) -> None:
        topic, whole = self._settings.dead_letter_topic, letter
        for less, without in ((whole.without_stacktrace(), "stack trace"), (whole.cut(), "whole record")):
            try:
                await self._send(topic, *dead_letters.encode(letter))
                return
            except MessageTooLarge as error:
                log.warning("dead letter published without its " + without, letter=letter.id, cause=error.message)
                letter = less
        await self._send(topic, *dead_letters.encode(letter))

    async def replay(self, letter: DeadLetter) -> None:
        headers = first_headers(letter.headers)
        await self._send(self._settings.kafka_jobs_topic, letter.key, letter.value, headers)

    async def ping(self) -> None:
        """Raises DependencyUnavailable if the broker does not answer, lacks a topic, or refuses what is published."""
        producer = await self._publisher.producer()
        try:
            cluster = await producer.client.fetch_all_metadata()
        except CLIENT_ERRORS as error:
            raise await explained(self._settings, error) from error
        if missing := set(self._settings.topics) - cluster.topics():
            raise DependencyUnavailable(DEPENDENCY, missing_topics(missing))
        for topic, cause in self._publisher.outcomes.failing().items():
            raise DependencyUnavailable(DEPENDENCY, f"publishing on {topic} fails: {cause}")

    async def _send(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Headers, origin: Origin = NO_ORIGIN
    ) -> None:
        with publishing(topic, key, headers, origin) as extended:
            await self._send_within_limit(topic, key, value, extended)

    async def _send_within_limit(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        # An idempotent producer retries without a limit. After the timeout here it still sends the message once the
        # broker is back. If the caller also sends it again, the message arrives twice, which every consumer accepts.
        try:
            async with translated(), asyncio.timeout(limit_s(DEPENDENCY, _SEND_TIMEOUT_S)):
                with metrics.STORE_REQUESTS.labels(DEPENDENCY, "publish").time():
                    await self._publisher.publish(topic, key, value, headers)
        except DependencyUnavailable as error:
            if self._publisher.is_unknown(topic):
                raise DependencyUnavailable(DEPENDENCY, missing_topics([topic])) from error
            raise

    async def _start_producer(self) -> AIOKafkaProducer:
        options = producer_options(
            self._settings, acks="all", enable_idempotence=True, request_timeout_ms=REQUEST_TIMEOUT_MS
        )
        producer = AIOKafkaProducer(**options)
        await start_client(producer, self._settings)
        return producer


def missing_topics(topics: Collection[str]) -> str:
    """Say which topics are missing, and how to create them."""
    named = ", ".join(sorted(topics))
    return (
        f"missing topics: {named}; `pagemill topics ensure` creates them; where there are ACLs, allow Describe on them"
    )
