"""What a document is: its states, its job, its pages, and how their ids are made."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ingestion.errors import BadRecord, BadRequest, NewerRecord, not_text
from ingestion.open_enum import OpenStrEnum

ROWS_PER_PAGE: Final = 2048
"""A patch row's primary key is `page_key * ROWS_PER_PAGE + patch`, so a page holds at most this many vectors."""

MAX_PAGE_KEY: Final = 1 << 51
"""Page keys are below it, so that primary keys, also of the last page of a long document, fit in int64."""

OUTAGES_FORGIVEN: Final = 5
"""So many attempts in a row that an outage ended, while the server worked for other documents in between, are given
back. After that they count: the document brings the server down, or the server does not take this document alone."""

MAX_FILENAME_BYTES: Final = 255
_FENCES_PER_PAGE: Final = 1 << 20
"""More than a document is ever claimed."""

DOCUMENTS_PREFIX: Final = "documents/"
"""Every object of every document is under it."""

Vectors = NDArray[np.float32]
"""One page or one query: (tokens, dim) float32, each row of unit length."""

BlobPrecision: TypeAlias = Literal["bf16", "int8", "int4"]
"""Of the vectors from which pages are reranked."""


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
    """One line of a document's story: claimed, postponed, released, lease expired, requeued, failed or ready."""

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


@dataclass(frozen=True, slots=True)
class Page:
    """One rendered page on its way through the pipeline; `page_number` counts from 1.

    `image` is the encoded picture that is kept, `pixels` the same picture as (height, width, 3) uint8 RGB, present
    only where the embedder looks at pixels.
    """

    page_number: int
    width_px: int
    height_px: int
    image: bytes
    text: str
    pixels: NDArray[np.uint8] | None = field(default=None, repr=False)
    image_format: str = "webp"
    """Of `image`: webp, png or jpeg, which is also how the name of its object ends."""


@dataclass(frozen=True, slots=True)
class PageVectors:
    """A page with its vectors, ready to be stored. `vectors` is (tokens, dim) float32, at most ROWS_PER_PAGE rows."""

    page: Page
    page_key: int
    vectors: Vectors


@dataclass(frozen=True, slots=True)
class PageRecord:
    """What MongoDB keeps of a page. `patches` vectors are in its blob, `rows` are in the ANN index.

    `rows` is None in records from before the two could differ: then there is a row for each patch.
    """

    page_key: int
    document_id: str
    page_number: int
    width_px: int
    height_px: int
    patches: int
    image_key: str
    text: str
    rows: int | None = None


def document_id(collection: str, filename: str, sha256: str) -> str:
    """The same file under the same name in the same collection is the same document: an upload may be repeated."""
    return hashlib.sha256("\0".join((collection, filename, sha256)).encode()).hexdigest()[:32]


def source_key(document: str) -> str:
    return f"{document_prefix(document)}source.pdf"


def document_prefix(document: str) -> str:
    return f"{DOCUMENTS_PREFIX}{document}/"


def pages_prefix(document: str) -> str:
    return f"{document_prefix(document)}pages/"


def image_key(document: str, page_number: int, extension: str) -> str:
    return f"{pages_prefix(document)}{page_number:06d}.{extension}"


def vectors_key(document: str, page_number: int, generation: int = 1) -> str:
    return f"{_vectors_stem(document, page_number, generation)}.vec"


def old_vectors_key(document: str, page_number: int, generation: int = 1) -> str:
    """The key that releases before 0.2 used."""
    return f"{_vectors_stem(document, page_number, generation)}.bf16"


def both_vectors_keys(document: str, page_number: int, generation: int = 1) -> tuple[str, str]:
    return vectors_key(document, page_number, generation), old_vectors_key(document, page_number, generation)


def _vectors_stem(document: str, page_number: int, generation: int) -> str:
    mark = "" if generation == 1 else f".g{generation}"
    return f"{pages_prefix(document)}{page_number:06d}{mark}"


_COLLECTION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


def check_collection(name: str) -> str:
    """Return `name`, or raise BadRequest where it cannot name a collection."""
    if not _COLLECTION.fullmatch(name):
        raise BadRequest(
            f"collection name {name[:120]!r} is not usable: 1 to 100 letters, digits, '_' or '-', "
            "beginning with a letter or digit"
        )
    return name


def check_text(text: str, name: str) -> str:
    """Return `text`, or raise BadRequest where it is no text: half a surrogate pair, which no encoding can hold.

    JSON can spell one as an escape, and Python makes one of each byte of a command line that is not UTF-8. `name` is
    what the message calls `text`.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadRequest(f"{name}: {not_text(error)}") from error
    return text


def clean_filename(name: str) -> str:
    """The last path component of what an uploader called the file, for display only; it never becomes a path.

    Control characters and lone surrogates are dropped and the name is cut to MAX_FILENAME_BYTES of UTF-8 without
    splitting a character. An empty result becomes "unnamed.pdf".
    """
    base = re.split(r"[\\/]", name)[-1]
    printable = "".join(c for c in base if c.isprintable()).encode("utf-8", "ignore")
    cleaned = printable[:MAX_FILENAME_BYTES].decode("utf-8", "ignore").strip()
    return cleaned if cleaned not in ("", ".", "..") else "unnamed.pdf"
