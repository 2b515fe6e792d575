"""A worker's main loop: poll, dispatch, pause, commit, drain.

Jobs run side by side up to `jobs_in_flight`. While all places are taken the partitions are paused and polling goes
on, so that a long job never costs the membership of the group. Offsets are committed only up to the watermark.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import structlog

from ingestion import metrics
from ingestion.adapters.kafka import Partition, Record
from ingestion.errors import BadMessage, DependencyUnavailable, LeaseHeld
from ingestion.messages import decode_job
from ingestion.model import IngestJob
from workers.watermark import Ticket, Watermarks

log = structlog.get_logger(__name__)

_POLL_MS: Final = 100
_COMMIT_EVERY_S: Final = 1.0
_BACKOFF_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0)
_LEASE_RECHECK_S: Final = 2.0


class Consumer(Protocol):
    """What the loop needs of `ingestion.adapters.kafka.JobConsumer`, which describes each method."""

    async def start(
        self,
        on_assigned: Callable[[set[Partition]], Awaitable[None]],
        on_revoked: Callable[[set[Partition]], Awaitable[None]],
    ) -> None: ...
    async def stop(self) -> None: ...
    async def poll(self, max_records: int, timeout_ms: int) -> list[Record]: ...
    def pause_all(self) -> None: ...
    def resume_all(self) -> None: ...
    async def commit(self, offsets: dict[Partition, int]) -> None: ...
    def ends(self) -> dict[Partition, int]: ...


class JobLoop:
    """Feeds records to `run_job`, which returns once a job needs no more work."""

    def __init__(
        self,
        consumer: Consumer,
        run_job: Callable[[IngestJob], Awaitable[None]],
        *,
        jobs_in_flight: int,
        drain_s: float,
    ) -> None:
        self._consumer = consumer
        self._run_job = run_job
        self._jobs_in_flight = jobs_in_flight
        self._drain_s = drain_s
        self._watermarks = Watermarks()
        self._measured: set[Partition] = set()
        self._jobs: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._fault: BaseException | None = None
        self._committed_at = 0.0
        self.polled_at = time.monotonic()
        """When the loop last came round, on the monotonic clock."""
        self.is_member = False
        """Whether the group has told this worker its partitions, which may be none."""

    def stop(self) -> None:
        """Fetch nothing more, finish what is in flight within `drain_s`, and let `run` return."""
        self._stopping.set()

    async def run(self) -> None:
        """Work until `stop`. Raises DependencyUnavailable where the broker cannot be reached at the start.

        An error that no job should raise ends the loop and is raised here: its offset is not finished, so the job
        comes again after a restart, with one attempt more on its count.
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
        free = self._jobs_in_flight - len(self._jobs)
        if free > 0:
            self._consumer.resume_all()
        else:
            self._consumer.pause_all()
        try:
            for record in await self._consumer.poll(max(1, free), _POLL_MS):
                self._dispatch(record)
            await self._commit()
        except DependencyUnavailable as error:
            log.warning("broker unavailable", cause=error.message)
            await asyncio.sleep(_BACKOFF_S[0])

    def _dispatch(self, record: Record) -> None:
        if not self._watermarks.holds(record.partition):  # revoked between the fetch and now
            return
        ticket = self._watermarks.begin(record.partition, record.offset)
        task = asyncio.create_task(self._work(record, ticket))
        self._jobs.add(task)
        task.add_done_callback(self._done)
        metrics.IN_FLIGHT.set(len(self._jobs))

    def _done(self, task: asyncio.Task[None]) -> None:
        self._jobs.discard(task)
        metrics.IN_FLIGHT.set(len(self._jobs))
        if not task.cancelled() and task.exception() is not None:
            self._fault = self._fault or task.exception()
            self.stop()

    async def _work(self, record: Record, ticket: Ticket) -> None:
        try:
            job = decode_job(record.value)
        except BadMessage as error:
            log.error("message skipped", partition=ticket.partition, offset=ticket.offset, cause=error.message)
        else:
            await self._until_decided(job)
        self._watermarks.finish(ticket)

    async def _until_decided(self, job: IngestJob) -> None:
        """Run the job again for as long as its way is barred by something that is not its fault."""
        outages = 0
        while True:
            try:
                return await self._run_job(job)
            except LeaseHeld as held:
                # Most often the lease of a worker that died; it ends by itself.
                wait_s = min(held.retry_in_s + 0.1, _LEASE_RECHECK_S)
            except DependencyUnavailable as error:
                wait_s = _BACKOFF_S[min(outages, len(_BACKOFF_S) - 1)]
                outages += 1
                log.warning("job waits", document_id=job.document_id, cause=error.message, retry_in_s=wait_s)
            await asyncio.sleep(wait_s)

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
                metrics.LAG.labels(partition[0], str(partition[1])).set(end - position)
                self._measured.add(partition)

    async def _on_assigned(self, partitions: set[Partition]) -> None:
        self._watermarks.assign(partitions)
        self.is_member = True
        log.info("partitions assigned", partitions=sorted(number for _, number in partitions))

    async def _on_revoked(self, partitions: set[Partition]) -> None:
        """Commit what is finished while these partitions are still ours; the rest is read again by their next owner.

        Jobs in flight go on: their leases keep the next owner waiting, and it finds them ready.
        """
        try:
            await self._commit(force=True)
        except DependencyUnavailable as error:
            log.warning("offsets not committed before a rebalance", cause=error.message)
        self._watermarks.revoke(partitions)
        for topic, number in partitions & self._measured:
            metrics.LAG.remove(topic, str(number))  # its next owner measures it
        self._measured -= partitions

    async def _drain(self) -> None:
        """Go on polling, with everything paused, so that the group does not take the partitions away meanwhile."""
        log.info("draining", jobs=len(self._jobs), deadline_s=self._drain_s)
        deadline = time.monotonic() + self._drain_s
        while self._jobs and time.monotonic() < deadline:
            self.polled_at = time.monotonic()
            self._consumer.pause_all()
            try:
                await self._consumer.poll(1, _POLL_MS)
            except DependencyUnavailable:
                await asyncio.wait(self._jobs, timeout=_BACKOFF_S[0])

    async def _end(self) -> None:
        unfinished = list(self._jobs)
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)
        try:
            await self._commit(force=True)
        except DependencyUnavailable as error:
            log.warning("offsets not committed at the end", cause=error.message)
        await self._consumer.stop()
        log.info("stopped", interrupted=len(unfinished))
