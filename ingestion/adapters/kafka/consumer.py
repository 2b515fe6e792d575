"""The workers' consumer group, through aiokafka."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, CorruptRecordException, IllegalStateError

from ingestion import metrics
from ingestion.adapters.kafka.client_options import consumer_options
from ingestion.adapters.kafka.client_start import start_client
from ingestion.adapters.kafka.fetch_progress import FetchProgress
from ingestion.adapters.kafka.membership import close_consumer, leave_group_on_stop, membership_failure
from ingestion.adapters.kafka.producer import translated
from ingestion.adapters.kafka.refusals import DEPENDENCY
from ingestion.adapters.kafka.stand_in import GLANCE_MS, rest_after_empty_poll
from ingestion.errors import WorkerFault
from ingestion.messages import HEADER_UNREADABLE, Partition, Record
from ingestion.settings import KafkaSettings

log = structlog.get_logger(__name__)

_UNREADABLE = (CorruptRecordException, ValueError, LookupError, struct.error)
"""Raised by aiokafka for a record that cannot be decoded: a wrong checksum, a header name that is not UTF-8. Each poll
raises it again, in each worker that gets the partition."""
_COMMIT_TIMEOUT_S: Final = 10.0
_REJOINS: Final = 2


class JobConsumer:
    """A member of the workers' consumer group. Offsets are committed only by `commit`.

    `on_assigned` and `on_revoked` are awaited inside the rebalance, before the group goes on.
    """

    def __init__(self, settings: KafkaSettings, client_id: str) -> None:
        self._settings = settings
        self._next: dict[TopicPartition, int] = {}
        """For each assigned partition, the offset after the last record that `poll` returned."""
        self._is_searching = False
        self._client_id = client_id
        self._progress = FetchProgress()
        self._rejoins = 0
        self._is_started = False
        self._consumer = self._new_consumer()

    def _new_consumer(self) -> AIOKafkaConsumer:
        settings = self._settings
        options = consumer_options(
            settings,
            group_id=settings.kafka_group,
            client_id=self._client_id,
            group_instance_id=self._client_id if settings.kafka_static_membership else None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_poll_interval_ms=settings.kafka_max_poll_interval_ms,
            session_timeout_ms=settings.kafka_session_timeout_ms,
            heartbeat_interval_ms=max(1, settings.kafka_session_timeout_ms // 10),
        )
        return AIOKafkaConsumer(**options)

    async def start(
        self,
        on_assigned: Callable[[set[Partition]], Awaitable[None]],
        on_revoked: Callable[[set[Partition]], Awaitable[None]],
    ) -> None:
        """Connect and begin to join the group. Raises DependencyRefused, DependencyUnavailable.

        Joining may take minutes. The client is started before it subscribes: otherwise its start would wait until it
        has partitions.
        """
        self._listener = _Listener(self._joining(on_assigned), self._forgetting(on_revoked))
        await self._join()

    async def _join(self) -> None:
        topics = [self._settings.kafka_jobs_topic, *self._settings.retry_topics.values()]
        await start_client(self._consumer, self._settings)
        self._is_started = True
        self._consumer.subscribe(topics, listener=self._listener)

    def _joining(
        self, on_assigned: Callable[[set[Partition]], Awaitable[None]]
    ) -> Callable[[set[Partition]], Awaitable[None]]:
        async def joined(partitions: set[Partition]) -> None:
            self._progress.joined()
            await on_assigned(partitions)

        return joined

    def _forgetting(
        self, on_revoked: Callable[[set[Partition]], Awaitable[None]]
    ) -> Callable[[set[Partition]], Awaitable[None]]:
        async def forget(partitions: set[Partition]) -> None:
            if partitions:  # the first join revokes nothing, and may wait for other members for minutes
                self._progress.left()
            await on_revoked(partitions)
            for partition in partitions:
                self._next.pop(TopicPartition(*partition), None)

        return forget

    async def stop(self) -> None:
        """Leave the group, so that other members get its partitions at once."""
        leave_group_on_stop(self._consumer)
        await close_consumer(self._consumer)

    async def poll(self, max_records: int, timeout_ms: int) -> list[Record]:
        """Return at most `max_records` new records of partitions that are not paused. Waits at most `timeout_ms`.

        Raises WorkerFault if aiokafka has left the group for good, or if a new membership gets nothing either.
        """
        await self._rejoin_if_silent()
        if (failure := membership_failure(self._consumer)) is not None:
            raise WorkerFault(f"no longer in the group: {failure}")
        async with translated():
            wait_ms = min(timeout_ms, GLANCE_MS) if self._settings.kafka_stand_in else timeout_ms
            try:
                batches = await self._read(wait_ms, max_records)
            except _UNREADABLE as error:
                log.warning("a record cannot be read", cause=f"{type(error).__name__}: {error}")
                await self._rewind()
                batches = {}
            if self._settings.kafka_stand_in and not batches:
                await rest_after_empty_poll(self._consumer)
            self._note_progress(has_records=bool(batches))
        return [record for records in batches.values() for record in records]

    def _note_progress(self, *, has_records: bool) -> None:
        awake = self._consumer.assignment() - self._consumer.paused()
        self._progress.note(
            {tuple(at): self._consumer.last_poll_timestamp(at) for at in awake}, has_records=has_records
        )
        if awake and self._progress.silent_s == 0:
            self._rejoins = 0

    async def _rejoin_if_silent(self) -> None:
        """Leave the group and join again where no fetch is answered although the broker answers.

        Raises WorkerFault where that has not helped, DependencyUnavailable where the broker is down.
        """
        if not self._is_started:  # the broker was down when this consumer wanted to join again
            await self._join()
        silent_s = self._progress.silent_s
        if silent_s < self._settings.kafka_silence_s:
            return
        self._progress.silent_s = 0.0
        async with translated():
            await self._consumer.topics()
        if self._rejoins >= _REJOINS:
            raise WorkerFault(f"no answer to a fetch within {silent_s:.0f} s, also after joining the group again")
        self._rejoins += 1
        log.error("no fetch is answered; joining the group again", seconds=round(silent_s))
        await self._listener.on_partitions_revoked(self._consumer.assignment())
        await self.stop()
        self._is_searching, self._is_started = False, False
        self._consumer = self._new_consumer()
        await self._join()

    async def _read(self, wait_ms: int, max_records: int) -> dict[TopicPartition, list[Record]]:
        """Raises one of _UNREADABLE. The records of other partitions are then lost and must be read again."""
        if self._is_searching:
            return await self._read_apart(wait_ms)
        batches = await self._consumer.getmany(timeout_ms=wait_ms, max_records=max_records)
        return {at: self._taken(at, found) for at, found in batches.items()}

    async def _read_apart(self, wait_ms: int) -> dict[TopicPartition, list[Record]]:
        """Read one record of each partition, to find the record that cannot be read.

        That record is returned without a value, so that it becomes a dead letter. The records after it in the same
        batch become dead letters too, because aiokafka reads a batch from its beginning.
        """
        batches: dict[TopicPartition, list[Record]] = {}
        for at in self._consumer.assignment() - self._consumer.paused():
            try:
                found = (await self._consumer.getmany(at, max_records=1)).get(at, [])
            except _UNREADABLE as error:
                offset = await self._consumer.position(at)
                reason = f"{type(error).__name__}: {error}".encode("utf-8", "replace")
                batches[at] = [Record(tuple(at), offset, None, None, ((HEADER_UNREADABLE, reason),))]
                self._consumer.seek(at, offset + 1)
                self._next[at] = offset + 1
                self._is_searching = False
            else:
                if found:
                    batches[at] = self._taken(at, found)
        if not batches:
            await asyncio.sleep(wait_ms / 1000)
        return batches

    def _taken(self, at: TopicPartition, found: Sequence[Any]) -> list[Record]:
        self._next[at] = found[-1].offset + 1
        return [
            Record(tuple(at), one.offset, one.key, one.value, tuple(one.headers), timestamp_ms=one.timestamp)
            for one in found
        ]

    async def _rewind(self) -> None:
        """Seek to the first records that `poll` has not returned, and begin to read one record at a time."""
        self._is_searching = True
        for at in self._consumer.assignment():
            offset = self._next.get(at)
            if offset is None:
                offset = await self._consumer.committed(at)
            if offset is None:
                await self._consumer.seek_to_beginning(at)
            else:
                self._consumer.seek(at, offset)

    def assignment(self) -> set[Partition]:
        return {tuple(at) for at in self._consumer.assignment()}

    def pause_only(self, partitions: Collection[Partition]) -> None:
        """Stop fetching `partitions`, and fetch all others. Polling continues and keeps the membership.

        A rebalance ends all pauses: call this before every poll.
        """
        assigned = self._consumer.assignment()
        paused = {at for at in assigned if tuple(at) in partitions}
        self._consumer.resume(*(assigned - paused))
        self._consumer.pause(*paused)

    async def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Commit the next offset to read of each partition.

        Raises DependencyUnavailable, also if the broker does not answer for some seconds: the client alone would
        repeat the request without end. A partition that has just moved to another member is no error: that member
        reads from the older offset, and a repeated job has no further effect.
        """
        async with translated():
            with suppress(CommitFailedError, IllegalStateError):
                commit = self._consumer.commit({TopicPartition(*at): offset for at, offset in offsets.items()})
                with metrics.STORE_REQUESTS.labels(DEPENDENCY, "commit").time():
                    async with asyncio.timeout(_COMMIT_TIMEOUT_S):
                        await commit

    def ends(self) -> dict[Partition, int]:
        """Return the end offset of each assigned partition for which a fetch has reported one."""
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
