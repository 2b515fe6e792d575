"""A document: its states, its record, its history and its job."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from ingestion.errors import BadRecord, NewerRecord
from ingestion.open_enum import OpenStrEnum

MAX_PAGE_KEY: Final = 1 << 51
"""Page keys are below it, so that primary keys, also of the last page of a long document, fit in int64."""
OUTAGES_FORGIVEN: Final = 5
"""So many attempts in a row that an outage ended, while the server worked for other documents in between, are given
back. After that they count: the document brings the server down, or the server does not take this document alone."""
_FENCES_PER_PAGE: Final = 1 << 20
"""More than a document is ever claimed."""


class DocumentState(OpenStrEnum):
    RECEIVED = "received"
    QUEUED = "queued"
    PROCESSING = "processing"
    READY = "ready"
    FAILED = "failed"
    ARCHIVED = "archived"
    """Ready or failed, and being packed into its collection's archive or brought back from it."""
    DELETING = "deleting"
    DELETED = "deleted"

    @property
    def is_settled(self) -> bool:
        """True where nothing more happens unless somebody asks for it."""
        return self in (
            DocumentState.READY,
            DocumentState.FAILED,
            DocumentState.ARCHIVED,
            DocumentState.DELETED,
        )


_S = DocumentState
TRANSITIONS: Final[dict[DocumentState, frozenset[DocumentState]]] = {
    # A worker may see the job before the uploader has recorded that it is queued.
    _S.RECEIVED: frozenset({_S.QUEUED, _S.PROCESSING, _S.DELETING}),
    _S.QUEUED: frozenset({_S.PROCESSING, _S.DELETING}),
    _S.PROCESSING: frozenset({_S.PROCESSING, _S.QUEUED, _S.READY, _S.FAILED, _S.DELETING}),
    _S.READY: frozenset({_S.DELETING, _S.ARCHIVED}),
    _S.FAILED: frozenset({_S.QUEUED, _S.DELETING, _S.ARCHIVED}),
    _S.ARCHIVED: frozenset({_S.READY, _S.FAILED}),
    _S.DELETING: frozenset({_S.DELETED}),
    _S.DELETED: frozenset(),
}


def sources_of(target: DocumentState) -> list[str]:
    """The states from which `target` may be entered, as the compare part of a compare-and-set."""
    return sorted(source.value for source, targets in TRANSITIONS.items() if target in targets)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a document failed: a stable code, the pipeline stage, and the first cause."""

    code: str
    stage: str
    message: str


def first_fence(first_page_key: int) -> int:
    """Where the fences of an upload begin: above those of any earlier upload of the same file.

    Its page keys are above those that the earlier one had reserved. A worker that still holds the earlier one must
    not find its fence again in the record of the new one.
    """
    return first_page_key * _FENCES_PER_PAGE


@dataclass(frozen=True, slots=True)
class Document:
    """A document's record. Times are UTC; `lease_until_ms` is the database's clock in Unix milliseconds."""

    id: str
    collection: str
    filename: str
    object_key: str
    sha256: str
    size_bytes: int
    pages: int
    first_page_key: int
    state: DocumentState = DocumentState.RECEIVED
    stage: str = ""
    pages_done: int = 0
    generation: int = 1
    """The generation of the collection's vectors that its pages are in, or are being written to."""
    next_generation: int = 0
    """The one that a re-embedding has begun to write it to, and how far that has come."""
    next_pages_done: int = 0
    dpi: int = 0
    attempts: int = 0
    outages: int = 0
    """Attempts since its last checkpoint that ended because a server was down for it and not for others; see
    OUTAGES_FORGIVEN."""
    fence: int = 0
    """One more with every claim and every delete; whoever changes a claimed document names the fence of its claim."""
    owner: str = ""
    lease_until_ms: int = 0
    outbox: str = "pending"
    letter: str = ""
    """Of a failed document: whether its dead letter is `pending` or `sent`."""
    error: Failure | None = None
    """Of a failed document its cause, of one that waits for a retry that of the last attempt."""
    created_at: datetime | None = None
    updated_at: datetime | None = None
    ready_at: datetime | None = None
    damage: str = ""
    """What of its record cannot be read, empty where all of it can. Not stored."""

    def require_readable(self) -> None:
        """Raises BadRecord, or NewerRecord where its state is one that this release does not know."""
        if self.damage:
            raise BadRecord(f"the record of document {self.id} cannot be read: {self.damage}")
        if not self.state.is_known:
            raise NewerRecord(f"document {self.id} is {self.state.value!r}: a newer release has to go on with it")

    @property
    def is_readable(self) -> bool:
        """False where a worker, the janitor and an audit have to leave the document alone."""
        return not self.damage and self.state.is_known

    def page_key(self, page_number: int) -> int:
        """The key of page `page_number` (from 1) in this document's reserved range."""
        return self.first_page_key + page_number - 1

    @property
    def is_begun_anew(self) -> bool:
        """Whether it was claimed before the claim that this record shows."""
        return self.fence != first_fence(self.first_page_key) + 1

    @property
    def page_keys(self) -> range:
        """The document's reserved range."""
        return range(self.first_page_key, self.first_page_key + self.pages)

    def is_in(self, generation: int) -> bool:
        """Whether, the document being ready, all of its pages are in that generation."""
        is_moved = self.next_generation == generation and self.next_pages_done == self.pages
        return self.generation == generation or is_moved


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a document's history: claimed, postponed, released, lease expired, requeued, failed or ready."""

    at: datetime
    event: str
    attempt: int
    worker: str
    detail: str


class StaleKind(StrEnum):
    """What a crash or an outage can leave behind in the records."""

    UNPUBLISHED = "unpublished"
    """Received or queued, and the outbox is still pending."""
    DEAD_LETTER_PENDING = "unburied"  # the value is a label of `ingestion_repairs_total`, and stays
    """Failed, and the dead letter is still pending."""
    ABANDONED = "abandoned"
    """Processing, and the lease ran out."""
    LOST = "lost"
    """Queued and published: perhaps it is only waiting its turn, perhaps the broker has lost the job."""
    HALF_DELETED = "half_deleted"
    """Deleting."""


@dataclass(frozen=True, slots=True)
class LetterMark:
    """What was done about a dead letter: `action` is replayed or discarded, `by` and `why` are whoever did it says."""

    letter_id: str
    action: str
    by: str
    why: str
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class IngestJob:
    """What the queue carries: enough to find the record, which holds the rest.

    `pages` tells a worker beforehand how much work there is; 0 where the writer did not say.
    """

    document_id: str
    collection: str
    filename: str
    pages: int = 0

    @classmethod
    def of(cls, document: Document) -> IngestJob:
        return cls(document.id, document.collection, document.filename, document.pages)
