"""Publishes the outcome of an attempt: ready, another attempt, or a dead letter.

The outcome is recorded in the ledger first and published to the broker after that. A crash in between leaves a record
of what is still to be published. A redelivered job or the janitor publishes it then.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from ingestion import dead_letters, metrics
from ingestion.dead_letters import DeadLetter
from ingestion.errors import BadMessage, EmbedderNotCurrent, IngestError
from ingestion.messages import Record
from ingestion.model import Document, DocumentState, Failure, IngestJob, sources_of
from ingestion.ports import DocumentReader, JobQueue, Ledger, Outbox, Progress
from ingestion.retrying import retrying
from workers.attempt.claims import log_fields
from workers.attempt.retry_policy import FailureRun, GiveUp, Retry, decide

log = structlog.get_logger(__name__)


class OutcomeLedger(DocumentReader, Ledger, Outbox, Protocol):
    """Records outcomes."""


@dataclass(frozen=True, slots=True)
class OutcomePublisher:
    """Records and publishes the outcomes of attempts. `group` is the consumer group's name, for dead letters."""

    ledger: OutcomeLedger
    queue: JobQueue
    progress: Progress
    failures: FailureRun
    group: str
    max_attempts: int
    retry_delays_s: Sequence[int]

    async def record_failure(self, document: Document, error: IngestError) -> Document:
        """Record a failed attempt: the document is postponed, or fails. Returns its record. Raises LeaseLost."""
        self.failures.failed(document.collection, document.id, error)
        failure = Failure(error.code, error.stage or "ingest", error.message)
        match self._decision(document, error):
            case Retry(delay_s):
                delay_ms = delay_s * 1000
                return await retrying(self.ledger.postpone, document.id, document.fence, failure, delay_ms)
            case GiveUp():
                return await retrying(self.ledger.fail, document.id, document.fence, failure)

    async def settle(self, document: Document, record: Record, error: IngestError | None, *, seconds: float) -> None:
        """Log and measure an attempt that took `seconds`, and publish its outcome as `publish` does."""
        metrics.DURATION.labels(_status_of(document)).observe(seconds)
        fields = log_fields(document) | _cause_fields(document)
        log.info("settled", **fields, outcome=document.state, seconds=round(seconds, 3))
        await self.publish(document, record, error)

    async def publish(self, document: Document, record: Record, error: IngestError | None) -> None:
        """Publish the outcome that the ledger has. On return the broker has acknowledged it."""
        if error is not None and document.state is DocumentState.QUEUED:
            await self._postpone(document, record, error)
            return
        if document.state is DocumentState.READY:
            self.failures.succeeded()
            _observe_readiness(document)
        metrics.FILES.labels(_status_of(document)).inc()
        await self._report(document)
        await self._follow_up(document, record, error)

    async def republish(self, job: IngestJob, record: Record) -> None:
        """Publish the outcome of a settled document again: a crash may have come before the broker had it."""
        document = await self.ledger.get(job.document_id)
        if document is not None and document.state.is_settled:
            await self._follow_up(document, record, None)

    async def defer(self, job: IngestJob, record: Record, error: EmbedderNotCurrent) -> None:
        """Leave the job to a worker with the right embedder: publish it on the first retry topic.

        It costs the document no attempt, however often it happens.
        """
        document = await self.ledger.get(job.document_id)
        if document is None or document.state not in sources_of(DocumentState.PROCESSING):
            await self.republish(job, record)
            return
        delay_s = self.retry_delays_s[0]
        log.info("deferred", document_id=job.document_id, collection=job.collection, cause=error.message)
        await self.progress.report(
            job.document_id, status="queued", message=f"waiting: {error.message}", processed=0, total=document.pages
        )
        await retrying(self.queue.retry, record, delay_s)

    async def reject(self, record: Record, error: BadMessage) -> None:
        """Publish a dead letter for a record that is no job, so that it belongs to no document."""
        await self._publish_dead_letter(dead_letters.of_record(record, self.group, error))

    def _decision(self, document: Document, error: IngestError) -> Retry | GiveUp:
        return decide(error, document.attempts, delays_s=self.retry_delays_s, max_attempts=self.max_attempts)

    async def _postpone(self, document: Document, record: Record, error: IngestError) -> None:
        decision = self._decision(document, error)
        if isinstance(decision, GiveUp):  # the document failed, and was uploaded again before the answer came
            return
        message = f"attempt {document.attempts} failed ({error.message}); the next one is in {decision.delay_s} s"
        await self.progress.report(
            document.id, status="queued", message=message, processed=document.pages_done, total=document.pages
        )
        await retrying(self.queue.retry, record, decision.delay_s)
        metrics.RETRIES.labels(error.code).inc()
        metrics.FILES.labels(metrics.RETRIED).inc()

    async def _follow_up(self, document: Document, record: Record, error: IngestError | None) -> None:
        if document.letter == "pending":
            await self._publish_dead_letter(dead_letters.of_document(document, record, self.group, error))
            await retrying(self.ledger.mark_dead_letter_sent, document.id, document.fence)
        await retrying(self.queue.announce, document)

    async def _publish_dead_letter(self, letter: DeadLetter) -> None:
        await retrying(self.queue.publish_dead_letter, letter)
        metrics.DEAD_LETTERS.inc()
        log.warning("dead letter", letter=letter.id, document_id=letter.document_id, code=letter.failure.code)

    async def _report(self, settled: Document) -> None:
        message = settled.error.message if settled.error else "searchable"
        await self.progress.report(
            settled.id, status=settled.state, message=message, processed=settled.pages_done, total=settled.pages
        )
        pages = settled.pages if settled.state is DocumentState.READY else 0
        await self.progress.add(**{settled.state.value: 1, "pages": pages})


def _status_of(document: Document) -> str:
    """The label `status` of the attempt after which `document` has been recorded."""
    statuses = {DocumentState.READY: metrics.SUCCESS, DocumentState.FAILED: metrics.FAILED}
    return statuses.get(document.state, metrics.RETRIED)


def _cause_fields(document: Document) -> dict[str, str]:
    """The fields of a log line about the document's error, if it has one."""
    error = document.error
    return {"code": error.code, "stage": error.stage, "cause": error.message} if error else {}


def _observe_readiness(document: Document) -> None:
    """The clocks of this machine and of the API, or the database, may differ."""
    began_at = document.requeued_at or document.created_at
    if began_at is not None:
        metrics.UPLOAD_TO_READY.observe(max(0.0, time.time() - began_at.timestamp()))
