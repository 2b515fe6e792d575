"""What a crash or an outage leaves half done, and who finishes it.

    received or queued, the job not yet published     -> published
    processing, and the lease has run out             -> queued, and published
    queued and published, for hours                   -> published again, should the broker have lost it
    failed, the dead letter not yet written           -> dead letter, event
    deleting                                          -> deleted

Every step is by compare-and-set, or may be repeated. So janitors may run side by side, and may meet the worker or the
upload that was only slow: what then happens twice has the effect of once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from ingestion import dead_letters, metrics
from ingestion.errors import DependencyUnavailable, as_ingest_error
from ingestion.model import Document, IngestJob, StaleKind
from ingestion.ports import DocumentStore, JobQueue
from ingestion.removal import Remover

log = structlog.get_logger(__name__)

_DOCUMENTS_AT_ONCE: Final = 100

Repair = Callable[[Document], Awaitable[bool]]
"""Finishes what was begun with a document; False where somebody else has done so."""


@dataclass(slots=True)
class Round:
    """What one round has put right, the documents it failed on, and how many it left alone by state."""

    repaired: Counter[StaleKind] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    unreadable: dict[str, int] = field(default_factory=dict)
    """Documents in states that only a newer release knows. They are left as they are, and are no failure."""


@dataclass(frozen=True, slots=True)
class Janitor:
    """`group` is the consumer group of the workers, for the dead letters that they did not live to write."""

    documents: DocumentStore
    queue: JobQueue
    remover: Remover
    group: str
    grace_s: float
    lost_after_s: float

    async def round(self, collection: str | None = None) -> Round:
        """Finish whatever has been left behind, in one collection or in all.

        A document that cannot be repaired is logged and stops nothing. Raises DependencyUnavailable where a server is
        down; the next round goes on from there.
        """
        done = Round()
        await self._repair_all(StaleKind.UNPUBLISHED, self.grace_s, self._publish, done, collection)
        await self._repair_all(StaleKind.ABANDONED, self.grace_s, self._free, done, collection)
        await self._repair_all(StaleKind.LOST, self.lost_after_s, self._publish, done, collection)
        await self._repair_all(
            StaleKind.DEAD_LETTER_PENDING, self.grace_s, self._publish_dead_letter, done, collection
        )
        await self._repair_all(StaleKind.HALF_DELETED, self.grace_s, self.remover.finish_delete, done, collection)
        await self.documents.settle_changes()
        done.unreadable = await self.documents.unreadable(collection)
        if collection is None:
            metrics.UNREADABLE.set(sum(done.unreadable.values()))
        return done

    async def _repair_all(
        self, kind: StaleKind, age_s: float, repair: Repair, done: Round, collection: str | None
    ) -> None:
        """Until no document is left that this round has not met: one that fails must not hide those behind it."""
        met: set[str] = set()
        while True:
            found = await self.documents.stale(kind, age_s, _DOCUMENTS_AT_ONCE + len(met), collection=collection)
            unmet = [document for document in found if document.id not in met]
            if not unmet:
                return
            for document in unmet:
                met.add(document.id)
                await self._repair(kind, document, repair, done)

    async def _repair(self, kind: StaleKind, document: Document, repair: Repair, done: Round) -> None:
        try:
            document.require_readable()
            is_repaired = await repair(document)
        except DependencyUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - what is raised about one document is that document's
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
        await self.documents.mark_queued(document)
        return True

    async def _free(self, document: Document) -> bool:
        """The message that its worker had not committed comes again as well, unless the broker has lost it."""
        return await self.documents.expire(document.id, document.fence) and await self._publish(document)

    async def _publish_dead_letter(self, document: Document) -> bool:
        letter = dead_letters.of_recovered(document, self.group)
        await self.queue.publish_dead_letter(letter)
        metrics.DEAD_LETTERS.inc()
        await self.documents.mark_dead_letter_sent(document.id, document.fence)
        await self.queue.announce(document)
        return True
