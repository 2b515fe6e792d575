"""One producer for all topics, replaced after an error that it cannot recover from."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)

from ingestion.adapters.kafka.abort import close_producer
from ingestion.adapters.kafka.publish_outcomes import PublishOutcomes
from ingestion.errors import MessageTooLarge
from ingestion.messages import Headers

log = structlog.get_logger(__name__)

_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)
_NOT_ENQUEUED: Final = (
    MessageSizeTooLargeError,
    KafkaTimeoutError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)
"""`send` raises these before the message has a sequence number. The producer stays usable."""


class Publisher:
    """Publishes with the producer that `start_producer` returns, and asks for a new one after each rejected message.

    An idempotent producer numbers its messages. It skips the number of a message that the broker rejected, so the
    broker rejects all later messages of that partition as out of order. The same producer never recovers.
    """

    def __init__(self, start_producer: Callable[[], Awaitable[AIOKafkaProducer]]) -> None:
        self._start_producer = start_producer
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()
        self.outcomes = PublishOutcomes()

    async def producer(self) -> AIOKafkaProducer:
        """Return the present producer. The first caller starts it, the others wait. Raises KafkaError, OSError."""
        async with self._starting:
            if self._producer is None:
                self._producer = await self._start_producer()
            return self._producer

    async def publish(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        """Return once the broker has acknowledged. Raises KafkaError, OSError, MessageTooLarge.

        If the caller stops waiting, the producer still sends the message, as soon as the broker takes it.
        """
        producer = await self.producer()
        try:
            delivery = await self._send(producer, topic, value=value, key=key, headers=headers)
            try:
                await asyncio.shield(delivery)
            except asyncio.CancelledError:
                self.outcomes.unanswered(topic, delivery)
                raise
        except _TOO_LARGE as error:
            raise MessageTooLarge(topic, len(key or b"") + len(value or b"")) from error

    def is_unknown(self, topic: str) -> bool:
        """Whether the brokers answer and have no such topic."""
        if self._producer is None:
            return False
        cluster = self._producer.client.cluster
        return topic not in cluster.unauthorized_topics and cluster.partitions_for_topic(topic) is None

    async def close(self) -> None:
        """Deliver what is in flight within some seconds, and close the connections."""
        if self._producer is not None:
            self._replace(self._producer)
        await asyncio.gather(*self._closing)

    async def _send(self, producer: AIOKafkaProducer, topic: str, **message: Any) -> asyncio.Future[Any]:
        try:
            delivery: asyncio.Future[Any] = await producer.send(topic, **message)
        except KafkaError as error:
            self.outcomes.failed(topic, error)
            if not isinstance(error, _NOT_ENQUEUED):
                self._replace(producer)
            raise
        delivery.add_done_callback(partial(self._delivered, producer, topic))
        return delivery

    def _delivered(self, producer: AIOKafkaProducer, topic: str, delivery: asyncio.Future[Any]) -> None:
        if delivery.cancelled():
            return
        error = delivery.exception()
        if error is None:
            self.outcomes.succeeded(topic)
            return
        if producer is self._producer:  # those of a producer that is being closed say nothing about the broker
            log.warning("producer replaced", topic=topic, cause=f"{type(error).__name__}: {error}")
            self.outcomes.failed(topic, error)
        self._replace(producer)

    def _replace(self, producer: AIOKafkaProducer) -> None:
        """Close the producer in the background. The next publish starts a new one. Safe to repeat."""
        if producer is not self._producer:
            return
        self._producer = None
        task = asyncio.create_task(close_producer(producer), name="close producer")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
