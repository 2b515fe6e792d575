"""Kafka through aiokafka: publishing jobs and events, consuming jobs, creating topics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeAlias

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError, TopicAlreadyExistsError, for_code

from ingestion.errors import DependencyUnavailable, IngestError, WorkerFault
from ingestion.messages import Headers, encode_event, encode_job
from ingestion.model import Document, IngestJob
from ingestion.settings import KafkaSettings

DEPENDENCY = "kafka"
_REQUEST_TIMEOUT_MS = 10_000
_GLANCE_MS = 20


def translate(error: BaseException) -> IngestError:
    """What the pipeline calls an exception of aiokafka or of the socket below it."""
    if isinstance(error, KafkaError) and not (error.retriable or _is_connection(error)):
        return WorkerFault(f"{DEPENDENCY}: {type(error).__name__}: {error}")
    return DependencyUnavailable(DEPENDENCY, f"{type(error).__name__}: {error}")


def _is_connection(error: KafkaError) -> bool:
    return type(error).__name__ in ("KafkaConnectionError", "KafkaTimeoutError", "NodeNotReadyError")


@asynccontextmanager
async def _translated() -> AsyncIterator[None]:
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
            with suppress(KafkaError):  # what was acknowledged is safe, and nothing else was promised
                await self._producer.stop()

    async def publish(self, job: IngestJob) -> None:
        await self._send(self._settings.kafka_jobs_topic, *encode_job(job))

    async def announce(self, document: Document) -> None:
        await self._send(self._settings.kafka_events_topic, *encode_event(document))

    async def ping(self) -> None:
        async with _translated():
            producer = await self._started()
            await producer.client.fetch_all_metadata()

    async def _send(self, topic: str, key: bytes, value: bytes, headers: Headers) -> None:
        async with _translated():
            producer = await self._started()
            await producer.send_and_wait(topic, value=value, key=key, headers=headers)

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    bootstrap_servers=self._settings.kafka_bootstrap,
                    acks="all",
                    enable_idempotence=True,
                    request_timeout_ms=_REQUEST_TIMEOUT_MS,
                )
                try:
                    await producer.start()
                except BaseException:
                    await producer.stop()
                    raise
                self._producer = producer
            return self._producer


Partition: TypeAlias = tuple[str, int]
"""(topic, partition number)."""


@dataclass(frozen=True, slots=True)
class Record:
    """One consumed record."""

    partition: Partition
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


class JobConsumer:
    """A member of the workers' consumer group. Offsets are committed only by `commit`.

    `on_assigned` and `on_revoked` are awaited inside the rebalance, before the group goes on.
    """

    def __init__(self, settings: KafkaSettings, client_id: str) -> None:
        self._settings = settings
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=settings.kafka_bootstrap,
            group_id=settings.kafka_group,
            client_id=client_id,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_poll_interval_ms=settings.kafka_max_poll_interval_ms,
            session_timeout_ms=settings.kafka_session_timeout_ms,
            heartbeat_interval_ms=max(1, settings.kafka_session_timeout_ms // 10),
        )

    async def start(
        self,
        on_assigned: Callable[[set[Partition]], Awaitable[None]],
        on_revoked: Callable[[set[Partition]], Awaitable[None]],
    ) -> None:
        """Join the group. Raises DependencyUnavailable."""
        self._consumer.subscribe([self._settings.kafka_jobs_topic], listener=_Listener(on_assigned, on_revoked))
        async with _translated():
            await self._consumer.start()

    async def stop(self) -> None:
        """Leave the group, so that its partitions move on at once."""
        with suppress(KafkaError):
            await self._consumer.stop()

    async def poll(self, max_records: int, timeout_ms: int) -> list[Record]:
        """Up to `max_records` new records of partitions that are not paused, waiting `timeout_ms` at most."""
        rest_ms = self._settings.kafka_idle_rest_ms
        async with _translated():
            wait_ms = min(timeout_ms, _GLANCE_MS) if rest_ms else timeout_ms
            batches = await self._consumer.getmany(timeout_ms=wait_ms, max_records=max_records)
            if rest_ms and not batches:
                awake = self._consumer.assignment() - self._consumer.paused()
                self._consumer.pause(*awake)
                await asyncio.sleep(rest_ms / 1000)
                self._consumer.resume(*(awake & self._consumer.assignment()))
        return [
            Record(tuple(at), found.offset, found.key, found.value, tuple(found.headers))
            for at, records in batches.items()
            for found in records
        ]

    def pause_all(self) -> None:
        """Fetch nothing more until `resume_all`; polling goes on and keeps the membership."""
        self._consumer.pause(*self._consumer.assignment())

    def resume_all(self) -> None:
        self._consumer.resume(*self._consumer.paused())

    async def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Commit the next offset to read of each partition.

        Raises DependencyUnavailable. A partition that has just moved to another member is no error: that member
        reads from the older offset, and a job done twice is a job done once.
        """
        async with _translated():
            with suppress(CommitFailedError, IllegalStateError):
                await self._consumer.commit({TopicPartition(*at): offset for at, offset in offsets.items()})

    def ends(self) -> dict[Partition, int]:
        """The offset that the next published record will get, for assigned partitions where a fetch has told it."""
        found = {tuple(at): self._consumer.highwater(at) for at in self._consumer.assignment()}
        return {at: end for at, end in found.items() if end is not None}


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(
        self,
        on_assigned: Callable[[set[Partition]], Awaitable[None]],
        on_revoked: Callable[[set[Partition]], Awaitable[None]],
    ) -> None:
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked

    async def on_partitions_revoked(self, revoked: Any) -> None:
        await self._on_revoked({tuple(at) for at in revoked})

    async def on_partitions_assigned(self, assigned: Any) -> None:
        await self._on_assigned({tuple(at) for at in assigned})


async def ensure_topics(settings: KafkaSettings) -> None:
    """Create the topics that are missing. Existing ones are left as they are. Raises DependencyUnavailable."""
    wanted = {settings.kafka_jobs_topic: settings.kafka_partitions, settings.kafka_events_topic: 1}
    async with _translated():
        admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap, request_timeout_ms=_REQUEST_TIMEOUT_MS)
        try:
            await admin.start()
            existing = set(await admin.list_topics())
            missing = [
                NewTopic(name, num_partitions=partitions, replication_factor=settings.kafka_replication)
                for name, partitions in wanted.items()
                if name not in existing
            ]
            if missing:
                _check(await admin.create_topics(missing))
        finally:
            await admin.close()


def _check(response: Any) -> None:
    for topic, code, *rest in response.topic_errors:
        kind = for_code(code)
        if code and kind is not TopicAlreadyExistsError:
            raise kind(f"creating topic {topic}: {rest[0] if rest else ''}")
