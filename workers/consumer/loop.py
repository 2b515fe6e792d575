"""A worker's main loop: poll, dispatch, pause, commit, drain.

Jobs run side by side while the `WeightedLimiter` has capacity. As many more wait for admission, so that freed capacity
is used at once and not at the next poll. `Admission` chooses which of them is next, and for which document. A running
job may suspend its capacity. A job that may not run yet waits without using capacity, see `attempts`. While the queue
is full the partitions are paused and polling goes on, so that a long job never costs the membership of the group.
Offsets are committed only up to the watermark.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Final, Protocol

import structlog

from ingestion import metrics
from ingestion.errors import DependencyUnavailable, WorkerFault
from ingestion.messages import Partition, Record
from ingestion.ports import Flows
from workers.consumer.admission import Admission
from workers.consumer.attempts import Attempts
from workers.consumer.capacity import WeightedLimiter
from workers.consumer.watermark import TrackedOffset, Watermarks
from workers.runtime.breaker import Breakers

log = structlog.get_logger(__name__)

_POLL_MS: Final = 100
_COMMIT_EVERY_S: Final = 1.0
_BACKOFF_S: Final = 0.5


class Consumer(Protocol):
    """Methods of `ingestion.adapters.kafka.consumer.JobConsumer`, which documents them."""

    async def start(
        self,
        on_assigned: Callable[[set[Partition]], Awaitable[None]],
        on_revoked: Callable[[set[Partition]], Awaitable[None]],
    ) -> None: ...
    async def stop(self) -> None: ...
    async def poll(self, max_records: int, timeout_ms: int) -> list[Record]: ...
    def assignment(self) -> set[Partition]: ...
    def pause_only(self, partitions: Collection[Partition]) -> None: ...
    async def commit(self, offsets: dict[Partition, int]) -> None: ...
    def ends(self) -> dict[Partition, int]: ...


class JobLoop:
    """Passes records to `run_record`, which returns once a record needs no more work."""

    def __init__(
        self,
        consumer: Consumer,
        run_record: Callable[[Record], Awaitable[None]],
        breakers: Breakers,
        *,
        jobs_in_flight: int,
        max_ahead: int,
        drain_s: float,
        flows: Flows | None = None,
    ) -> None:
        """`flows`: None where each record serves its own document, in the order of arrival."""
        self._consumer = consumer
        self._breakers = breakers
        self._limiter = WeightedLimiter(jobs_in_flight)
        self._admission = Admission(self._limiter, flows)
        self._attempts = Attempts(run_record, self._admission, breakers)
        self._max_ahead = max_ahead
        self._drain_s = drain_s
        self._watermarks = Watermarks()
        self._measured: set[Partition] = set()
        self._jobs: set[asyncio.Task[None]] = set()
        self._not_before: dict[Partition, float] = {}
        self._stopping = asyncio.Event()
        self._fault: BaseException | None = None
        self._committed_at = 0.0
        self.polled_at = time.monotonic()
        """The monotonic time of the last turn of the loop."""
        self.is_member = False
        """Whether the group has assigned partitions to this worker, possibly none."""

    @property
    def is_idle(self) -> bool:
        """Whether no job runs; jobs may wait."""
        return not self._running()

    @property
    def is_empty(self) -> bool:
        """Whether this worker has no record, not even one that waits."""
        return self.is_member and not self._jobs

    def stop(self) -> None:
        """Fetch no more records, let jobs in flight finish within `drain_s`, and let `run` return."""
        self._stopping.set()

    def fail(self, fault: BaseException) -> None:
        """Stop, and let `run` raise `fault` at the end."""
        self._fault = self._fault or fault
        self.stop()

    async def run(self) -> None:
        """Work until `stop`. Raises DependencyUnavailable where the broker cannot be reached at the start.

        `run_record` settles the errors of a job (`workers.consumer.record_runner`). An error that `run_record` raises
        concerns this worker: it ends the loop and is raised here. The offset stays unfinished, so the record is read
        again later.
        """
        await self._consumer.start(self._on_assigned, self._on_revoked)
        try:
            while not self._stopping.is_set():
                await self._turn()
            await self._drain()
        finally:
            await self._end()
        if self._fault is not None:
            raise self._fault

    async def _turn(self) -> None:
        self.polled_at = time.monotonic()
        running = len(self._running())
        metrics.IN_FLIGHT.set(running)
        wanted = 2 * self._limiter.max_documents - running - len(self._attempts.queued)
        self._consumer.pause_only(self._paused() if wanted > 0 else self._consumer.assignment())
        try:
            for record in await self._consumer.poll(max(1, min(wanted, self._max_ahead)), _POLL_MS):
                self._dispatch(record)
            await self._commit()
        except DependencyUnavailable as error:
            self._breakers.trip(error)
            await asyncio.sleep(_BACKOFF_S)
        except WorkerFault as fault:
            # This worker has left the group. Jobs in flight still hold their leases, so let them finish.
            self._fault = self._fault or fault
            self.stop()

    def _paused(self) -> set[Partition]:
        """The partitions to read no more from now, although there is capacity."""
        assigned = self._consumer.assignment()
        if self._breakers.is_blocking:
            return assigned
        now = time.monotonic()
        return {
            partition
            for partition in assigned
            if self._not_before.get(partition, 0.0) > now or self._watermarks.ahead(partition) >= self._max_ahead
        }

    def _running(self) -> set[asyncio.Task[None]]:
        """Jobs that hold capacity, have suspended it, or are about to acquire it."""
        return self._jobs - self._attempts.waiting - self._attempts.queued

    def _dispatch(self, record: Record) -> None:
        if not self._watermarks.holds(record.partition):  # revoked between the fetch and now
            return
        if record.due_in_s > 0:
            # All retries of a topic wait equally long, so later records of the partition are due later.
            self._not_before[record.partition] = time.monotonic() + record.due_in_s
        tracked = self._watermarks.begin(record.partition, record.offset)
        task = asyncio.create_task(self._work(record, tracked))
        self._jobs.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._jobs.discard(task)
        metrics.IN_FLIGHT.set(len(self._running()))
        if task.cancelled():
            if not self._stopping.is_set():  # by a library: the job would be lost, and no later offset committed
                self.fail(WorkerFault("a job was cancelled from within"))
        elif (error := task.exception()) is not None:
            self.fail(error)

    async def _work(self, record: Record, tracked: TrackedOffset) -> None:
        def is_ours() -> bool:
            return self._watermarks.is_current(tracked) and not self._stopping.is_set()

        if await self._attempts.make(record, is_ours):
            self._watermarks.finish(tracked)

    async def _commit(self, *, force: bool = False) -> None:
        if not force and time.monotonic() - self._committed_at < _COMMIT_EVERY_S:
            return
        self._committed_at = time.monotonic()
        if offsets := self._watermarks.committable():
            await self._consumer.commit(offsets)
            self._watermarks.committed(offsets)
        self._measure_lag()

    def _measure_lag(self) -> None:
        for partition, end in self._consumer.ends().items():
            position = self._watermarks.position(partition)
            if position is not None:
                topic, number = partition[0], str(partition[1])
                metrics.LAG.labels(topic, number).set(end - position)
                metrics.WATERMARK_AGE.labels(topic, number).set(self._watermarks.age_s(partition))
                self._measured.add(partition)

    async def _on_assigned(self, partitions: set[Partition]) -> None:
        self._watermarks.assign(partitions)
        self.is_member = True
        log.info("partitions assigned", partitions=sorted(number for _, number in partitions))

    async def _on_revoked(self, partitions: set[Partition]) -> None:
        """Commit finished offsets before other workers get these partitions. They read the remaining records again.

        Jobs in flight go on. Their leases make the next owner wait, and it then finds the documents ready.
        """
        try:
            await self._commit(force=True)
        except DependencyUnavailable as error:
            log.warning("offsets not committed before a rebalance", cause=error.message)
        self._watermarks.revoke(partitions)
        for partition in partitions:
            self._not_before.pop(partition, None)
        for topic, number in partitions & self._measured:
            for gauge in (metrics.LAG, metrics.WATERMARK_AGE):
                gauge.remove(topic, str(number))  # the next owner measures it
        self._measured -= partitions

    async def _drain(self) -> None:
        """Let jobs finish. Polling goes on, with all partitions paused, so that the group does not revoke them."""
        log.info("draining", jobs=len(self._running()), deadline_s=self._drain_s)
        deadline = time.monotonic() + self._drain_s
        while self._running() and time.monotonic() < deadline:
            self.polled_at = time.monotonic()
            self._consumer.pause_only(self._consumer.assignment())
            try:
                await self._consumer.poll(1, _POLL_MS)
                await self._commit()
            except (DependencyUnavailable, WorkerFault):
                if running := self._running():
                    await asyncio.wait(running, timeout=_BACKOFF_S)

    async def _end(self) -> None:
        unfinished = list(self._jobs)
        for task in unfinished:
            task.cancel()
        await self._admission.close()
        await asyncio.gather(*unfinished, return_exceptions=True)
        try:
            await self._commit(force=True)
        except DependencyUnavailable as error:
            log.warning("offsets not committed at the end", cause=error.message)
        await self._consumer.stop()
        log.info("stopped", interrupted=len(unfinished))
