"""A document: its states, its record, its history and its job."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from ingestion.errors import BadRecord, NewerRecord
from ingestion.model.flows import Flow
from ingestion.model.metadata import Metadata
from ingestion.model.notes import Note
from ingestion.model.pages import TextPages
from ingestion.model.tenants import tenant_of
from ingestion.open_enum import OpenStrEnum
from ingestion.priority import Priority

MAX_PAGE_KEY: Final = 1 << 51
"""Page keys are smaller, so that the primary keys of patch rows fit in int64, also for a document's last page."""
OUTAGES_FORGIVEN: Final = 5
"""The number of attempts in a row that are not counted if an outage ended them while the server worked for other
documents in between. Later ones count: the document makes the server fail, or the server refuses it alone."""
MOST_CONVERTED_PAGES: Final = 10_000
"""The most pages of a file that has to be converted. Its page keys are reserved before its pages can be counted."""
PDF_MEDIA_TYPE: Final = "application/pdf"
_FENCES_PER_PAGE: Final = 1 << 20
"""More than the claims of any document."""


class DocumentState(OpenStrEnum):
    RECEIVED = "received"
    QUEUED = "queued"
    PROCESSING = "processing"
    READY = "ready"
    FAILED = "failed"
    ARCHIVED = "archived"
    """Was ready, failed or cancelled; is being packed into its collection's archive, or restored from it."""
    CANCELLING = "cancelling"
    """Was unfinished; what workers have written for it is being removed."""
    CANCELLED = "cancelled"
    DELETING = "deleting"
    DELETED = "deleted"

    @property
    def is_settled(self) -> bool:
        """True if the state changes only on a user's request."""
        return self in (
            DocumentState.READY,
            DocumentState.FAILED,
            DocumentState.ARCHIVED,
            DocumentState.CANCELLED,
            DocumentState.DELETED,
        )


_S = DocumentState
TRANSITIONS: Final[dict[DocumentState, frozenset[DocumentState]]] = {
    # A worker may see the job before the uploader has recorded that it is queued.
    _S.RECEIVED: frozenset({_S.QUEUED, _S.PROCESSING, _S.CANCELLING, _S.DELETING}),
    _S.QUEUED: frozenset({_S.PROCESSING, _S.CANCELLING, _S.DELETING}),
    _S.PROCESSING: frozenset({_S.PROCESSING, _S.QUEUED, _S.READY, _S.FAILED, _S.CANCELLING, _S.DELETING}),
    _S.READY: frozenset({_S.DELETING, _S.ARCHIVED}),
    _S.FAILED: frozenset({_S.QUEUED, _S.DELETING, _S.ARCHIVED}),
    _S.CANCELLING: frozenset({_S.CANCELLED, _S.DELETING}),
    # A new upload of the file takes the place of the record, with page keys and fences of its own.
    _S.CANCELLED: frozenset({_S.RECEIVED, _S.DELETING, _S.ARCHIVED}),
    _S.ARCHIVED: frozenset({_S.READY, _S.FAILED, _S.CANCELLED}),
    _S.DELETING: frozenset({_S.DELETED}),
    _S.DELETED: frozenset(),
}


UNFINISHED: Final = (_S.RECEIVED, _S.QUEUED, _S.PROCESSING)
"""The states of documents that become ready or fail without a user's request."""
CANCELLATION: Final = (_S.CANCELLING, _S.CANCELLED)


def sources_of(target: DocumentState) -> list[str]:
    """Return the states that may change to `target`, for the condition of a compare-and-set."""
    return sorted(source.value for source, targets in TRANSITIONS.items() if target in targets)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a document failed: a stable code, the pipeline stage, and the first cause."""

    code: str
    stage: str
    message: str


def first_fence(first_page_key: int) -> int:
    """Return the first fence of an upload. It is above all fences of earlier uploads of the same file.

    Page keys grow with each upload, so fences that are made from them do too. A worker that still holds an earlier
    upload must not find its fence in the record of the new one.
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
    media_type: str = PDF_MEDIA_TYPE
    """The type of the uploaded file. A file of another type is converted to PDF; its pages are counted then, and
    `pages` is 0 before."""
    state: DocumentState = DocumentState.RECEIVED
    stage: str = ""
    pages_done: int = 0
    generation: int = 1
    """The generation that holds the vectors of its pages, or that a worker writes them to."""
    next_generation: int = 0
    """The generation that a re-embedding writes the document to. 0: none."""
    next_pages_done: int = 0
    """The number of pages that the re-embedding has written."""
    codes_format: int = 0
    """The format of the sign codes that a ready document has, in each generation that it is in. 0: it has none."""
    terms_format: int = 0
    """The format of the terms that a ready document has. 0: it has none."""
    dpi: int = 0
    text_pages: TextPages | None = None
    """Where the texts of the first `pages_done` pages came from. None in records of earlier releases."""
    notes: tuple[Note, ...] = ()
    """About the document, and about its first `pages_done` pages."""
    attempts: int = 0
    outages: int = 0
    """Attempts since the last checkpoint that ended because a server failed for this document and not for others; see
    OUTAGES_FORGIVEN."""
    fence: int = 0
    """Grows with every claim and every delete. A change of a claimed document must name the fence of the claim."""
    owner: str = ""
    lease_until_ms: int = 0
    priority: Priority | None = None
    """None in records of earlier releases, which are bulk."""
    delivery: str = ""
    """The record of the broker under which the document was last claimed; see `messages.Record.delivery`."""
    outbox: str = "pending"
    letter: str = ""
    """`pending` or `sent`: the state of a failed document's dead letter. Empty for other documents."""
    error: Failure | None = None
    """Why the document failed. For a document that waits for a retry: why the last attempt failed."""
    created_at: datetime | None = None
    requeued_at: datetime | None = None
    """When the failed document was last queued again on a user's request."""
    updated_at: datetime | None = None
    ready_at: datetime | None = None
    request_id: str = ""
    """The id of the request that uploaded it."""
    traceparent: str = ""
    """The span of that request, where traces are recorded."""
    metadata: Metadata = field(default_factory=dict, hash=False)
    tags: tuple[str, ...] = ()
    key: str = ""
    """The user's name for all versions of a file in its collection. Empty: the document replaces none."""
    revision: int = 0
    """The order in which the versions of a key were accepted. It grows; 0 in records without a key."""
    replaced_by: str = ""
    """The id of the newer version of the key, once that is ready. The janitor removes this document then."""
    duplicate_of: str = ""
    """The id of a document of the collection that had the same bytes when this one was uploaded."""
    damage: str = ""
    """The unreadable fields of the record, empty if there are none. Not stored."""

    @property
    def flow(self) -> Flow:
        return Flow(self.priority or Priority.BULK, tenant_of(self.collection))

    @property
    def turn_name(self) -> str:
        """Documents with the same name wait for each other in a worker; those with different names take turns."""
        return f"{self.flow.priority} {self.collection}"

    def require_readable(self) -> None:
        """Raises BadRecord for a damaged record, NewerRecord for a state that this release does not know."""
        if self.damage:
            raise BadRecord(f"the record of document {self.id} cannot be read: {self.damage}")
        if not self.state.is_known:
            raise NewerRecord(f"document {self.id} is {self.state.value!r}: a newer release has to go on with it")

    @property
    def is_readable(self) -> bool:
        """False if workers, the janitor and audits must not change the document."""
        return not self.damage and self.state.is_known

    @property
    def is_converted(self) -> bool:
        """Whether the pages are those of a PDF that a worker made from the uploaded file."""
        return self.media_type != PDF_MEDIA_TYPE

    def page_key(self, page_number: int) -> int:
        """Return the key of page `page_number` (from 1) in the document's reserved range."""
        return self.first_page_key + page_number - 1

    @property
    def is_begun_anew(self) -> bool:
        """Whether the document was claimed before its current claim."""
        return self.fence != first_fence(self.first_page_key) + 1

    @property
    def page_keys(self) -> range:
        """The range of page keys that is reserved for the document."""
        return range(self.first_page_key, self.first_page_key + self.pages)

    def is_in(self, generation: int) -> bool:
        """Whether all pages of this document, which must be ready, are in `generation`."""
        is_moved = self.next_generation == generation and self.next_pages_done == self.pages
        return self.generation == generation or is_moved


def newest_versions(ready: Iterable[Document]) -> list[Document]:
    """Of ready documents with the same key only the newest version, and every document without a key.

    This is the rule of what a search finds. The documents are of one collection. A new version becomes visible, and
    the former one invisible, with one write: the one that makes the new version ready.
    """
    found = list(ready)
    newest: dict[str, Document] = {}
    for document in found:
        if document.key and (document.key not in newest or newest[document.key].revision < document.revision):
            newest[document.key] = document
    return [one for one in found if not one.replaced_by and (not one.key or newest[one.key] is one)]


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a document's history: claimed, postponed, released, lease expired, requeued, failed or ready."""

    at: datetime
    event: str
    attempt: int
    worker: str
    detail: str


class StaleKind(StrEnum):
    """The kinds of unfinished documents that a crash or an outage leaves behind."""

    UNPUBLISHED = "unpublished"
    """Received or queued, and the outbox is still pending."""
    DEAD_LETTER_PENDING = "unburied"  # the value is a label of `ingestion_repairs_total`, and stays
    """Failed, and the dead letter is still pending."""
    ABANDONED = "abandoned"
    """Processing, and the lease ran out."""
    LOST = "lost"
    """Queued and published for long: either the job still waits, or the broker has lost it."""
    HALF_DELETED = "half_deleted"
    """Deleting."""
    REPLACED = "replaced"
    """A newer version of its key is ready. The age counts from then."""
    HALF_CANCELLED = "half_cancelled"
    """Cancelling."""


@dataclass(frozen=True, slots=True)
class LetterMark:
    """The mark of a dead letter. `action` is replayed or discarded; its caller gives `by` and `why`."""

    letter_id: str
    action: str
    by: str
    why: str
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class IngestJob:
    """The message of the jobs topic. The document's record holds the other fields.

    `pages` lets a worker plan before it reads the record. 0: unknown. The last two are those of the document. They are
    no part of the message: its headers hold them.
    """

    document_id: str
    collection: str
    filename: str
    pages: int = 0
    request_id: str = field(default="", compare=False)
    traceparent: str = field(default="", compare=False)

    @classmethod
    def of(cls, document: Document) -> IngestJob:
        return cls(
            document.id,
            document.collection,
            document.filename,
            document.pages,
            request_id=document.request_id,
            traceparent=document.traceparent,
        )
