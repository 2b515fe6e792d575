"""The workers' consumer group, through aiokafka."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from ingestion.adapters.kafka import translated
from ingestion.errors import WorkerFault
from ingestion.messages import Partition, Record
from ingestion.settings import KafkaSettings

_GLANCE_MS: Final = 20
_COMMIT_TIMEOUT_S: Final = 10.0


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
            group_instance_id=client_id if settings.kafka_static_membership else None,
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
        """Connect, and begin to join the group, which may take minutes. Raises DependencyUnavailable.

        Subscribed before it is started, the client would not return until it has its partitions.
        """
        topics = [self._settings.kafka_jobs_topic, *self._settings.retry_topics.values()]
        async with translated():
            await self._consumer.start()
        self._consumer.subscribe(topics, listener=_Listener(on_assigned, on_revoked))

    async def stop(self) -> None:
        """Leave the group, so that its partitions move on at once.

        aiokafka does not let a static member leave, for it may be back soon. Who stops in good order has time to say
        that it goes, so it leaves as any other member. Its name is dropped at the last moment: a join that is under
        way by then would otherwise make a second, nameless member of it, which brokers wait for in vain.
        """
        if (coordinator := self._consumer._coordinator) is not None:
            leave = coordinator._maybe_leave_group

            async def leave_although_static() -> None:
                coordinator._group_instance_id = None
                await leave()

            coordinator._maybe_leave_group = leave_although_static
        with suppress(KafkaError):
            await self._consumer.stop()

    async def poll(self, max_records: int, timeout_ms: int) -> list[Record]:
        """Up to `max_records` new records of partitions that are not paused, waiting `timeout_ms` at most.

        Raises WorkerFault where aiokafka has given the group up, which it does for good.
        """
        rest_ms = self._settings.kafka_idle_rest_ms
        if (coordinator := self._consumer._coordinator) is not None and coordinator._coordination_task.done():
            raise WorkerFault(f"no longer in the group: {coordinator._coordination_task.exception()!r}")
        async with translated():
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

    def assignment(self) -> set[Partition]:
        return {tuple(at) for at in self._consumer.assignment()}

    def pause_only(self, partitions: Collection[Partition]) -> None:
        """Fetch nothing more of `partitions`, and of all others again. Polling goes on and keeps the membership.

        A rebalance forgets pauses, so this is said again before every poll.
        """
        assigned = self._consumer.assignment()
        paused = {at for at in assigned if tuple(at) in partitions}
        self._consumer.resume(*(assigned - paused))
        self._consumer.pause(*paused)

    async def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Commit the next offset to read of each partition.

        Raises DependencyUnavailable, also where the broker says nothing for some seconds: the client alone would ask
        for ever. A partition that has just moved to another member is no error: that member reads from the older
        offset, and a job done twice is a job done once.
        """
        async with translated():
            with suppress(CommitFailedError, IllegalStateError):
                commit = self._consumer.commit({TopicPartition(*at): offset for at, offset in offsets.items()})
                await asyncio.wait_for(commit, _COMMIT_TIMEOUT_S)

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
