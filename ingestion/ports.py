"""What the pipeline, the API and the search ask of the outside world.

Every method may block on its server and raises `DependencyUnavailable` while that server does not answer; each
docstring says what else it raises and whether calling it twice is safe. Objects behind these protocols are made in
`bootstrap` and nowhere else.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from pathlib import Path
from typing import Protocol

from ingestion.inventory import BlobInventory, RecordInventory, RowInventory
from ingestion.letters import DeadLetter
from ingestion.messages import Record
from ingestion.model import (
    Document,
    Event,
    Failure,
    IngestJob,
    LetterMark,
    Page,
    PageRecord,
    PageVectors,
    StaleKind,
    Vectors,
)


class JobQueue(Protocol):
    """Where jobs are published and terminal changes announced. Each call returns once the broker has acknowledged."""

    async def publish(self, job: IngestJob) -> None:
        """Publish with key = document id. Twice makes two messages of one job, which workers treat as one."""

    async def retry(self, record: Record, delay_s: int) -> None:
        """Publish the record again, key and value untouched, on the retry topic of `delay_s`."""

    async def bury(self, letter: DeadLetter) -> None:
        """Publish on the dead-letter topic. Twice makes two records of one letter, which readers take for one."""

    async def replay(self, letter: DeadLetter) -> None:
        """Publish the letter's record on the jobs topic, with key, value and headers as they first came."""

    async def announce(self, document: Document) -> None:
        """Publish the document's present state on the events topic. At least once."""

    async def ping(self) -> None: ...


class DeadLetters(Protocol):
    """The dead-letter topic, read without a consumer group: looking at it changes nothing."""

    def read(self) -> AsyncIterator[DeadLetter]:
        """Every letter that is on the topic now, oldest first within a partition, each id once.

        Records that are no letters are skipped and logged.
        """


class BlobStore(BlobInventory, Protocol):
    """The object store. Keys are made by `ingestion.model`. Writing or deleting twice is the same as once."""

    async def put(self, key: str, data: bytes, content_type: str) -> None: ...

    async def put_file(self, key: str, path: Path, content_type: str) -> None:
        """Store a file without holding it in memory."""

    async def get(self, key: str) -> bytes:
        """Raises NotFound."""

    async def get_many(self, keys: Sequence[str]) -> list[bytes]:
        """Fetch side by side, in the order of `keys`. Raises NotFound where any is missing."""

    async def fetch_file(self, key: str, path: Path) -> None:
        """Write the object to `path` without holding it in memory. Raises NotFound."""

    async def delete_prefix(self, prefix: str) -> int:
        """Delete every object under `prefix`; returns how many there were."""

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete these objects, where they are there."""

    async def list_keys(self, prefix: str) -> list[str]: ...

    async def presign(self, key: str, expires_s: int) -> str:
        """A URL from which anybody can read the object for `expires_s` seconds. Makes no request."""

    async def ping(self) -> None: ...


class VectorStore(RowInventory, Protocol):
    """One ANN index per document collection. All writes are by primary key: doing them twice is the same as once."""

    async def ensure(self, collection: str, dim: int) -> None:
        """Create the collection and its HNSW index where they are missing.

        Raises EmbedderMismatch where it exists with another dimension.
        """

    async def upsert(self, collection: str, pages: Sequence[PageVectors]) -> None:
        """Write the rows of `pages`, row `patch` of a page under `page_key * ROWS_PER_PAGE + patch`."""

    async def search(self, collection: str, query: Vectors, limit: int) -> list[list[tuple[int, float]]]:
        """For each query token the `limit` nearest rows as (page_key, inner product), best first, in one request.

        An unknown collection gives no rows.
        """

    async def delete_pages(self, collection: str, first_page_key: int, count: int) -> None:
        """Remove every row of `count` pages from `first_page_key` on. An unknown collection is no error."""

    async def count_rows(self, collection: str, first_page_key: int, count: int) -> int:
        """How many rows these pages have, strongly consistent."""

    async def count(self, collection: str) -> int:
        """How many rows the collection has, 0 where it is unknown."""

    async def drop(self, collection: str) -> None:
        """Remove the collection. An unknown one is no error."""

    async def ping(self) -> None: ...


class DocumentStore(RecordInventory, Protocol):
    """The records, and the ledger that says who works on what.

    `fence` grows with every claim and every delete. A method that takes a fence does nothing and raises LeaseLost
    where the document's fence is no longer that one; lease times are compared by the database's own clock.
    """

    async def reserve_page_keys(self, count: int) -> int:
        """Reserve `count` consecutive page keys for good and return the first. Twice reserves two ranges."""

    async def bind_collection(self, collection: str, fingerprint: str, dim: int) -> None:
        """Remember which embedder filled the collection. Raises EmbedderMismatch where it was another one."""

    async def collection_fingerprint(self, collection: str) -> str | None:
        """The embedder bound to the collection, None before its first page."""

    async def collections(self) -> Sequence[str]:
        """The collections that an embedder is bound to, in the order of their names."""

    async def insert(self, document: Document) -> bool:
        """Insert as `received` with the outbox pending; False, and nothing changed, where the id exists."""

    async def get(self, document_id: str) -> Document | None: ...

    async def list(
        self, collection: str | None = None, *, limit: int = 100, after: str | None = None
    ) -> list[Document]:
        """Documents that are not deleted, in the order of their ids, from after the id `after`."""

    async def mark_queued(self, document_id: str) -> None:
        """The broker has the job: outbox sent, and `received` becomes `queued`. Twice is safe."""

    async def requeue(self, document_id: str, *, fence: int | None = None) -> bool:
        """`failed` becomes `queued` with the outbox pending and no attempts; pages that are stored stay stored.

        False, and nothing changed, where it is not failed, or, with `fence`, where it failed under another one.
        """

    async def claim(self, document_id: str, owner: str, lease_ms: int) -> Document:
        """Take the document for `lease_ms`: attempts + 1, fence + 1, state processing, in one compare-and-set.

        Raises LeaseHeld while another owner's lease runs, Conflict where the state allows no work any more (ready,
        failed, deleting), NotFound where there is no such document.
        """

    async def extend(self, document_id: str, fence: int, lease_ms: int) -> None:
        """Heartbeat: move the end of the lease. Raises LeaseLost."""

    async def plan(self, document_id: str, fence: int, *, dpi: int, stage: str) -> None:
        """Record how the document is being rendered. Raises LeaseLost."""

    async def checkpoint(self, document_id: str, fence: int, pages_done: int) -> None:
        """Everything up to page `pages_done` is in all stores. Raises LeaseLost."""

    async def finish(self, document_id: str, fence: int) -> Document:
        """`processing` becomes `ready`, which makes the document visible to search. Raises LeaseLost."""

    async def postpone(self, document_id: str, fence: int, failure: Failure, delay_ms: int) -> Document:
        """`processing` becomes `queued`, not to be claimed for `delay_ms`; the attempt stays counted.

        Raises LeaseLost.
        """

    async def fail(self, document_id: str, fence: int, failure: Failure) -> Document:
        """`processing` becomes `failed`, with its dead letter pending. Raises LeaseLost."""

    async def mark_buried(self, document_id: str, fence: int) -> None:
        """The broker has the dead letter of the failure under `fence`. No effect once the document has moved on."""

    async def release(self, document_id: str, fence: int) -> None:
        """End the lease now, without a verdict: `processing` becomes `queued`, and the attempt is not counted.

        Raises LeaseLost.
        """

    async def story(self, document_id: str) -> Sequence[Event]:
        """What befell the document, oldest first: claims, postponements, verdicts. Empty for an unknown id."""

    async def stale(
        self, kind: StaleKind, age_s: float, limit: int, *, collection: str | None = None
    ) -> Sequence[Document]:
        """Documents that have been in the state which `kind` names for longer than `age_s`, oldest first.

        The age counts from the last change, or from the end of a lease or of a wait where that is later.
        """

    async def expire(self, document_id: str, fence: int) -> bool:
        """A lease that has run out: `processing` becomes `queued` with the outbox pending; the attempt stays counted.

        False, and nothing changed, where the fence has moved on or the lease still runs.
        """

    async def mark_letter(self, mark: LetterMark) -> bool:
        """Remember what was done about a dead letter. False, and nothing changed, where it has a mark already."""

    async def letter_marks(self, letter_ids: Collection[str]) -> dict[str, LetterMark]:
        """The marks that exist, by letter id."""

    async def begin_delete(self, document_id: str) -> Document:
        """Any state becomes `deleting`, and the fence moves on, so that a worker's late writes are refused.

        Safe to repeat. Raises NotFound.
        """

    async def remove(self, document_id: str) -> None:
        """Drop the record and its pages, last step of a delete. An unknown id is no error."""

    async def remove_pages(self, first_page_key: int, count: int) -> None:
        """Drop the records of `count` pages from `first_page_key` on, where there are any."""

    async def put_pages(self, pages: Sequence[PageRecord]) -> None:
        """Insert or replace by page key."""

    async def pages_by_key(self, page_keys: Collection[int], *, with_text: bool = False) -> dict[int, PageRecord]:
        """The records that exist; `text` is empty unless asked for."""

    async def ready_documents(self, document_ids: Collection[str]) -> dict[str, Document]:
        """Those of `document_ids` that are `ready`, with the state read from the primary."""

    async def drop_collection(self, collection: str) -> None:
        """Forget the embedder of a collection that has no documents any more."""

    async def ping(self) -> None: ...


class Progress(Protocol):
    """Redis: what a person watches. Best effort: a Redis that is down loses progress, never a document, so the
    writing methods log and return instead of raising."""

    async def report(self, document_id: str, *, status: str, message: str, processed: int, total: int) -> None: ...

    async def read(self, document_id: str) -> dict[str, str]:
        """The task hash, empty where there is none or Redis is down."""

    async def forget(self, document_id: str) -> None: ...

    async def add(self, **amounts: int) -> None:
        """Add to the running totals of `metrics:ingestion`."""

    async def ping(self) -> None: ...


class Embedder(Protocol):
    """Pages and queries to multi-vectors. A page's vectors do not depend on what shares its batch."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever the vectors would: model, revision, precision, preprocessing."""

    @property
    def dim(self) -> int: ...

    @property
    def wants_pixels(self) -> bool:
        """True where `embed_pages` looks at `Page.pixels`; False where the text layer is enough."""

    async def embed_pages(self, pages: Sequence[Page]) -> list[Vectors]:
        """One (tokens, dim) float32 array per page, in order, rows of unit length, 1 to ROWS_PER_PAGE rows,
        except that a text embedder returns 0 rows for a page without a text layer."""

    async def embed_queries(self, queries: Sequence[str]) -> list[Vectors]:
        """One (tokens, dim) float32 array per query, in order, rows of unit length."""


class PageSource(Protocol):
    """A document being rendered. `windows` yields consecutive windows of pages and keeps none of them."""

    @property
    def pages(self) -> int: ...

    @property
    def dpi(self) -> int:
        """What the policy chose; single pages may be drawn at less because of the pixel cap."""

    def windows(self, first_page: int) -> AsyncIterator[list[Page]]:
        """From page `first_page` (from 1) to the end. Raises PageRenderFailed, RenderTimeout, CorruptPdf."""


class Renderer(Protocol):
    async def open(self, path: Path, *, pixels: bool) -> PageSource:
        """Look at the PDF at `path` and plan its rendering. `pixels`: keep the raw picture of each page as well.

        Raises EncryptedPdf, CorruptPdf, NoPages, TooManyPages.
        """
