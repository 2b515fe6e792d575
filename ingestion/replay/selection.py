"""Selects dead letters by id, error code, collection, time and status."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from ingestion.dead_letters import DeadLetter
from ingestion.errors import NotFound
from ingestion.model import IngestJob, tenant_of
from ingestion.replay.entries import DeadLetterEntry, DeadLetterStatus


@dataclass(frozen=True, slots=True)
class Selection:
    """A filter that is None takes every letter. `ids` are ids of letters or of documents.

    `since` and `until` (exclusive) compare with the time at which the letter was written.
    """

    ids: frozenset[str] | None = None
    code: str | None = None
    collection: str | None = None
    tenant: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    statuses: frozenset[DeadLetterStatus] | None = None
    with_unowned: bool = False
    """Also, beside those of `tenant`, the letters of no tenant: their records are no jobs."""

    def takes(self, letter: DeadLetter) -> bool:
        """True where the letter passes every filter except `statuses`."""
        return (
            (self.ids is None or not self.ids.isdisjoint(ids_of(letter)))
            and (self.code is None or letter.failure.code == self.code)
            and (self.since is None or letter.timestamp >= self.since)
            and (self.until is None or letter.timestamp < self.until)
            and self._takes_collection(letter.job)
        )

    def _takes_collection(self, job: IngestJob | None) -> bool:
        """A letter without a job belongs to no collection and to no tenant."""
        if job is None:
            return self.collection is None and (self.tenant is None or self.with_unowned)
        return self.collection in (None, job.collection) and self.tenant in (None, tenant_of(job.collection))

    def takes_status(self, entry: DeadLetterEntry) -> bool:
        return self.statuses is None or entry.status in self.statuses

    def check_ids_found(self, letters: Iterable[DeadLetter]) -> None:
        """Raises NotFound, with the ids, where an id of the selection belongs to none of `letters`."""
        found = {id_ for letter in letters for id_ in ids_of(letter)}
        if missing := sorted((self.ids or frozenset()) - found):
            raise NotFound(f"no dead letter matches {', '.join(missing)}")


def ids_of(letter: DeadLetter) -> set[str]:
    """The ids that select the letter: its own, and that of its document."""
    job = letter.job
    return {letter.id, letter.document_id, job.document_id if job else ""} - {""}
