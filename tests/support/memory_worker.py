"""A worker's pipeline on in-memory stores, with a scripted renderer and embedder, and documents to ingest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from ingestion.messages import Record, encode_job
from ingestion.model import Document, IngestJob, Note, Page, Priority, Vectors, source_key
from tests.memory import MemoryBlobStore, MemoryDocumentStore, MemoryVectorStore
from tests.memory.clock import Clock
from tests.memory.job_queue import MemoryJobQueue
from tests.memory.progress import MemoryProgress
from workers.attempt.claims import Claims
from workers.attempt.outcomes import OutcomePublisher
from workers.attempt.retry_policy import FailureRun
from workers.attempt.stall import StallDetector
from workers.attempt.store import PageStore
from workers.pipeline import Pipeline

COLLECTION: Final = "manuals"
GROUP: Final = "workers"
LEASE_S: Final = 30.0
MAX_ATTEMPTS: Final = 5
DELAYS_S: Final = (10, 60, 600)
WINDOW_PAGES: Final = 2
DIM: Final = 4

Action = Callable[[], Awaitable[None]]


@dataclass
class ScriptedPages:
    """PageSource."""

    pages: int
    dpi: int = 40
    render_calls: int = 0
    notes: tuple[Note, ...] = ()

    async def windows(self, first_page: int) -> AsyncIterator[list[Page]]:
        for start in range(first_page, self.pages + 1, WINDOW_PAGES):
            numbers = range(start, min(start + WINDOW_PAGES, self.pages + 1))
            self.render_calls += len(numbers)
            yield [Page(number, 20, 10, b"image", f"page {number}") for number in numbers]


@dataclass
class ScriptedRenderer:
    """Renderer. The file's text is its number of pages."""

    error: Exception | None = None

    async def open(self, path: Path, *, pixels: bool, caller: str = "") -> ScriptedPages:
        if self.error is not None:
            raise self.error
        return ScriptedPages(int(path.read_text()))


@dataclass
class ScriptedEmbedder:
    """Embedder. Awaits `before[n]` once before it embeds page n; `seen` are the pages that it embedded."""

    fingerprint: str = "scripted"
    dim: int = DIM
    wants_pixels: bool = False
    before: dict[int, Action] = field(default_factory=dict)
    error: Exception | None = None
    seen: list[int] = field(default_factory=list)

    async def embed_pages(self, pages: Sequence[Page]) -> list[Vectors]:
        for page in pages:
            if (action := self.before.pop(page.page_number, None)) is not None:
                await action()
        if self.error is not None:
            raise self.error
        self.seen += [page.page_number for page in pages]
        return [np.eye(2, self.dim, dtype=np.float32) for _ in pages]

    async def embed_queries(self, queries: Sequence[str]) -> list[Vectors]:
        return [np.eye(1, self.dim, dtype=np.float32) for _ in queries]


class MemoryWorker:
    """One worker and the stores of its documents."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.documents = MemoryDocumentStore(self.clock)
        self.blobs = MemoryBlobStore()
        self.vectors = MemoryVectorStore()
        self.queue = MemoryJobQueue()
        self.progress = MemoryProgress()
        self.renderer = ScriptedRenderer()
        self.embedder = ScriptedEmbedder()
        self.pipeline = self.pipeline_of()

    def pipeline_of(self, *, documents: Any = None, queue: Any = None, stalls: Any = None) -> Pipeline:
        """A pipeline of its own, some of whose parts are replaced."""
        documents = documents or self.documents
        store = PageStore(documents, self.blobs, self.vectors)
        outcomes = OutcomePublisher(
            ledger=documents,
            queue=queue or self.queue,
            progress=self.progress,
            failures=FailureRun(10, on_limit=lambda cause: None),
            group=GROUP,
            max_attempts=MAX_ATTEMPTS,
            retry_delays_s=DELAYS_S,
        )
        return Pipeline(
            ledger=documents,
            blobs=self.blobs,
            store=store,
            renderer=self.renderer,
            embedder=self.embedder,
            progress=self.progress,
            outcomes=outcomes,
            claims=Claims(documents, store, "w1", LEASE_S),
            max_attempts=MAX_ATTEMPTS,
            stalls=stalls or StallDetector(),
        )

    async def uploaded(
        self,
        id_: str = "d1",
        pages: int = 4,
        *,
        pages_in_file: int | None = None,
        is_published: bool = True,
        collection: str = COLLECTION,
        priority: Priority | None = None,
    ) -> Document:
        """A document that was uploaded, with its job published or not yet."""
        first = await self.documents.reserve_page_keys(pages)
        file = {"filename": f"{id_}.pdf", "object_key": source_key(id_), "sha256": "0" * 64, "size_bytes": 1}
        document = Document(id_, collection, **file, pages=pages, first_page_key=first, priority=priority)
        await self.blobs.put(document.object_key, str(pages_in_file or pages).encode(), "application/pdf")
        await self.documents.insert(document)
        if is_published:
            await self.documents.mark_queued(document)
        return document

    async def read(self, document: Document) -> Document:
        found = await self.documents.get(document.id)
        assert found is not None
        return found

    async def events(self, document: Document) -> list[str]:
        return [event.event for event in await self.documents.history(document.id)]

    async def rows(self, document: Document) -> int:
        return await self.vectors.count_rows(COLLECTION, document.first_page_key, document.pages)


def job(document: Document) -> Record:
    key, value, headers = encode_job(IngestJob.of(document))
    return Record(("jobs", 3), 17, key, value, tuple(headers))


class Cut:
    """A port with one method that raises `error` instead of its work, or after it."""

    def __init__(self, port: object, method: str, error: Exception, *, works: bool = False) -> None:
        self._port, self.method, self._error, self._works = port, method, error, works

    def __getattr__(self, name: str) -> Any:
        original = getattr(self._port, name)
        if name != self.method:
            return original

        async def cut(*args: Any, **kwargs: Any) -> Any:
            if self._works:
                await original(*args, **kwargs)
            raise self._error

        return cut


class ActingBlobs:
    """The object store. Does something before or after it stores an object for the first time."""

    def __init__(self, blobs: MemoryBlobStore, act: Action, *, before: bool) -> None:
        self._blobs, self._act, self._before = blobs, act, before
        self._has_acted = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._blobs, name)

    async def put(self, key: str, data: bytes, content_type: str) -> None:
        is_first, self._has_acted = not self._has_acted, True
        if is_first and self._before:
            await self._act()
        await self._blobs.put(key, data, content_type)
        if is_first and not self._before:
            await self._act()
