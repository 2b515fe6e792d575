"""Runs the job of a record, and settles the errors that it raises.

Any error of a job belongs to its record, also an unforeseen one. The record is published on a retry topic, and as a
dead letter after the last delivery. Its headers count the deliveries, because the ledger may be unreadable. Only an
error that is raised while an error is settled ends the worker. A worker that is broken itself shows in the failure
run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from ingestion import dead_letters, metrics
from ingestion.errors import DependencyUnavailable, IngestError, LeaseHeld, MessageTooLarge, as_ingest_error
from ingestion.messages import Record
from ingestion.model import Document, Failure, IngestJob
from ingestion.ports import DocumentReader, JobQueue, Ledger
from ingestion.retrying import retrying
from ingestion.tracing import Message, processing
from workers.attempt.offers import OfferRefused
from workers.attempt.outcomes import OutcomePublisher
from workers.attempt.retry_policy import GiveUp, Retry, decide

log = structlog.get_logger(__name__)

_CLAIM_MS: Final = 30_000
_OWNER: Final = "dead letters"
"""The owner, in the ledger, of a document that is claimed only to record its failure."""


class FailureLedger(DocumentReader, Ledger, Protocol):
    """Reads and fails the document of a failed record."""


@dataclass(frozen=True, slots=True)
class RecordRunner:
    """Settles the errors that `run_job` raises."""

    run_job: Callable[[Record], Awaitable[None]]
    ledger: FailureLedger
    queue: JobQueue
    outcomes: OutcomePublisher

    async def run(self, record: Record) -> None:
        """On return the record needs no more work.

        Raises LeaseHeld, OfferRefused and DependencyUnavailable as `run_job` does.

        Any other exception from here ends the worker.
        """
        message = Message(*record.partition, record.offset, record.headers, record.received_ns)
        with processing(message, self.outcomes.group):
            await self._run(record)

    async def _run(self, record: Record) -> None:
        try:
            await self.run_job(record)
        except (LeaseHeld, DependencyUnavailable, OfferRefused):
            raise
        except Exception as error:  # noqa: BLE001 - any error of a job belongs to its record
            await self._settle(record, error)

    async def _settle(self, record: Record, error: Exception) -> None:
        cause, delivery, job = as_ingest_error(error), record.deliveries_failed + 1, _job_of(record)
        self.outcomes.failures.failed(job.collection if job else "", job.document_id if job else "", cause)
        decision = decide(
            cause, delivery, delays_s=self.outcomes.retry_delays_s, max_attempts=self.outcomes.max_attempts
        )
        facts = {"document_id": job.document_id if job else "", "delivery": delivery, "code": cause.code}
        match decision:
            case Retry(delay_s):
                log.error("record retried", **facts, cause=cause.message, exc_info=error)
                try:
                    await retrying(self.queue.retry, record.failed_again(), delay_s)
                except MessageTooLarge as refused:
                    await self._publish_dead_letter(record, job, refused, delivery)
                    return
                metrics.RETRIES.labels(cause.code).inc()
            case GiveUp():
                log.error("record given up", **facts, cause=cause.message, exc_info=error)
                await self._publish_dead_letter(record, job, cause, delivery)

    async def _publish_dead_letter(
        self, record: Record, job: IngestJob | None, cause: IngestError, delivery: int
    ) -> None:
        """Let the document fail with its record. Where the ledger cannot record that, publish a dead letter alone."""
        failed = await self._failed(job, cause) if job else None
        if failed is not None:
            await self.outcomes.publish(failed, record, cause)
            return
        letter = dead_letters.of_record(record, self.outcomes.group, cause, delivery_count=delivery)
        await retrying(self.queue.publish_dead_letter, letter)
        metrics.DEAD_LETTERS.inc()
        log.warning("dead letter", letter=letter.id, document_id=job.document_id if job else "", code=cause.code)

    async def _failed(self, job: IngestJob, cause: IngestError) -> Document | None:
        """Returns the failed document. None where it is settled, held, unknown, or cannot be read."""
        try:
            document = await self.ledger.get(job.document_id)
            if document is None or not document.is_readable:
                return None
            claimed = await self.ledger.claim(job.document_id, _OWNER, _CLAIM_MS)
            failure = Failure(cause.code, cause.stage or "ingest", cause.message)
            return await retrying(self.ledger.fail, claimed.id, claimed.fence, failure)
        except DependencyUnavailable:
            raise
        except IngestError as reason:
            log.warning("document left as it is", document_id=job.document_id, cause=reason.message)
            return None


def _job_of(record: Record) -> IngestJob | None:
    try:
        return record.job
    except IngestError:
        return None
