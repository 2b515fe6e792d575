"""The janitor's round: it finishes what a crash or an outage has left half done.

    received or queued, the job not published yet     -> published
    processing, and the lease has run out             -> queued, and published
    queued and published, for hours                   -> published again, in case the broker has lost the job
    failed, the dead letter not published yet         -> dead letter, event
    deleting                                          -> deleted
    replaced by a newer version, for a minute         -> deleted
    cancelling                                        -> cancelled

Every step is a compare-and-set, or safe to repeat. So janitors may run side by side, and beside a worker or an upload
that was only slow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog

from ingestion import dead_letters, metrics
from ingestion.cancel import Canceller
from ingestion.errors import DependencyUnavailable, as_ingest_error
from ingestion.model import Document, IngestJob, StaleKind
from ingestion.ports import JobQueue, Outbox, Recovery
from ingestion.removal import Remover

log = structlog.get_logger(__name__)

_DOCUMENTS_AT_ONCE: Final = 100

Repair = Callable[[Document], Awaitable[bool]]
"""Repairs one document. Returns False where another process has done so."""


@dataclass(slots=True)
class RoundResult:
    """The result of one round: repairs by kind, documents that failed, and unreadable documents by state."""

    repaired: Counter[StaleKind] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    unreadable: dict[str, int] = field(default_factory=dict)
    """Documents in states that only a newer release knows. The round leaves them as they are."""


class JanitorRecords(Outbox, Recovery, Protocol):
    """The records that the janitor reads and repairs."""


@dataclass(frozen=True, slots=True)
class Janitor:
    """`group` is the consumer group of the workers, for the dead letters that a crash kept them from publishing."""

    records: JanitorRecords
    queue: JobQueue
    remover: Remover
    canceller: Canceller
    group: str
    grace_s: float
    lost_after_s: float
    replaced_after_s: float = 60.0

    async def round(self, collection: str | None = None) -> RoundResult:
        """Repair the documents of one collection, or of all.

        A document that cannot be repaired is logged, and the round goes on. Raises DependencyUnavailable where a
        server is down. The next round repairs the rest.
        """
        done = RoundResult()
        await self._repair_all(StaleKind.UNPUBLISHED, self.grace_s, self._publish, done, collection)
        await self._repair_all(StaleKind.ABANDONED, self.grace_s, self._requeue, done, collection)
        await self._repair_all(StaleKind.LOST, self.lost_after_s, self._publish, done, collection)
        await self._repair_all(
            StaleKind.DEAD_LETTER_PENDING, self.grace_s, self._publish_dead_letter, done, collection
        )
        await self._repair_all(StaleKind.HALF_DELETED, self.grace_s, self.remover.finish_delete, done, collection)
        await self._repair_all(StaleKind.HALF_CANCELLED, self.grace_s, self.canceller.finish_cancel, done, collection)
        await self.records.settle_changes()
        await self._repair_all(
            StaleKind.REPLACED, self.replaced_after_s, self.remover.delete_replaced, done, collection
        )
        done.unreadable = await self.records.unreadable(collection)
        if collection is None:
            metrics.UNREADABLE.set(sum(done.unreadable.values()))
        return done

    async def _repair_all(
        self, kind: StaleKind, age_s: float, repair: Repair, done: RoundResult, collection: str | None
    ) -> None:
        """Repair each stale document once. Documents that failed must not hide those behind them."""
        seen: set[str] = set()
        while True:
            found = await self.records.stale(kind, age_s, _DOCUMENTS_AT_ONCE + len(seen), collection=collection)
            fresh = [document for document in found if document.id not in seen]
            if not fresh:
                return
            for document in fresh:
                seen.add(document.id)
                await self._repair(kind, document, repair, done)

    async def _repair(self, kind: StaleKind, document: Document, repair: Repair, done: RoundResult) -> None:
        try:
            document.require_readable()
            is_repaired = await repair(document)
        except DependencyUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - any error belongs to this one document
            done.failed.append(document.id)
            cause = as_ingest_error(error)
            log.error("not repaired", document_id=document.id, kind=kind, code=cause.code, cause=cause.message)
            return
        if is_repaired:
            done.repaired[kind] += 1
            metrics.REPAIRS.labels(kind).inc()
            log.info("repaired", document_id=document.id, kind=kind, state=document.state, attempt=document.attempts)

    async def _publish(self, document: Document) -> bool:
        await self.queue.publish(IngestJob.of(document))
        await self.records.mark_queued(document)
        return True

    async def _requeue(self, document: Document) -> bool:
        """Unless the broker has lost it, the record that the worker had not committed is read again as well."""
        return await self.records.expire(document.id, document.fence) and await self._publish(document)

    async def _publish_dead_letter(self, document: Document) -> bool:
        letter = dead_letters.of_recovered(document, self.group)
        await self.queue.publish_dead_letter(letter)
        metrics.DEAD_LETTERS.inc()
        await self.records.mark_dead_letter_sent(document.id, document.fence)
        await self.queue.announce(document)
        return True
