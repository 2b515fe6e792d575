"""What an error is about: one record, or the worker.

Whatever a job raises is its record's, foreseen or not: the record is tried again through the retry topics, and is a
dead letter after so many deliveries. They are counted in its headers, for the ledger may be what cannot be read. Only
what is raised while that is being arranged ends the worker; a worker that is broken itself shows in the failure run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from ingestion import dead_letters, metrics
from ingestion.errors import DependencyUnavailable, IngestError, LeaseHeld, as_ingest_error
from ingestion.messages import Record, decode_job
from ingestion.model import Document, Failure, IngestJob
from ingestion.ports import DocumentStore, JobQueue
from ingestion.retrying import retrying
from workers.attempt.outcomes import OutcomePublisher
from workers.attempt.retry_policy import GiveUp, Retry, decide

log = structlog.get_logger(__name__)

_CLAIM_MS = 30_000
_DEAD_LETTERS = "dead letters"
"""The owner in the ledger of a document that is only claimed in order to fail."""


@dataclass(frozen=True, slots=True)
class RecordRunner:
    """Runs jobs by `run_job`, and settles what they raise."""

    run_job: Callable[[Record], Awaitable[None]]
    documents: DocumentStore
    queue: JobQueue
    outcomes: OutcomePublisher

    async def run(self, record: Record) -> None:
        """On return the record needs no more work. Raises LeaseHeld and DependencyUnavailable as `run_job` does.

        Anything else that is raised here ends the worker.
        """
        try:
            await self.run_job(record)
        except (LeaseHeld, DependencyUnavailable):
            raise
        except Exception as error:  # noqa: BLE001 - what is raised about one record is that record's
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
                log.error("record put off", **facts, cause=cause.message, exc_info=error)
                await retrying(self.queue.retry, record.failed_again(), delay_s)
                metrics.RETRIES.labels(cause.code).inc()
            case GiveUp():
                log.error("record given up", **facts, cause=cause.message, exc_info=error)
                await self._publish_dead_letter(record, job, cause, delivery)

    async def _publish_dead_letter(
        self, record: Record, job: IngestJob | None, cause: IngestError, delivery: int
    ) -> None:
        """The document fails with its record, where the ledger can say so: else the record alone is a dead letter."""
        failed = await self._failed(job, cause) if job else None
        if failed is not None:
            await self.outcomes.publish(failed, record, cause)
            return
        letter = dead_letters.of_record(record, self.outcomes.group, cause, delivery_count=delivery)
        await retrying(self.queue.publish_dead_letter, letter)
        metrics.DEAD_LETTERS.inc()
        log.warning("dead letter", letter=letter.id, document_id=job.document_id if job else "", code=cause.code)

    async def _failed(self, job: IngestJob, cause: IngestError) -> Document | None:
        """The document as failed. None where it is settled, held, unknown, or cannot be read."""
        try:
            document = await self.documents.get(job.document_id)
            if document is None or not document.is_readable:
                return None
            claimed = await self.documents.claim(job.document_id, _DEAD_LETTERS, _CLAIM_MS)
            failure = Failure(cause.code, cause.stage or "ingest", cause.message)
            return await retrying(self.documents.fail, claimed.id, claimed.fence, failure)
        except DependencyUnavailable:
            raise
        except IngestError as reason:
            log.warning("document left as it is", document_id=job.document_id, cause=reason.message)
            return None


def _job_of(record: Record) -> IngestJob | None:
    try:
        return decode_job(record.value)
    except IngestError:
        return None
