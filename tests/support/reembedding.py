"""A collection in use that is re-embedded, and the events that tests cause meanwhile."""

from __future__ import annotations

import hashlib
import io
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, Final

from motor.motor_asyncio import AsyncIOMotorClient
from PIL import Image

from ingestion.bootstrap import Services
from ingestion.catalogue.generations import Binding
from ingestion.messages import Record
from ingestion.model import Document, Page, PageVectors, Vectors, document_prefix, source_key, vectors_key
from ingestion.ports import Embedder, JobQueue
from ingestion.removal import Remover
from ingestion.search import Searcher
from ingestion.search_mode import SearchMode
from tests.support.documents import LEASE_MS, document
from tests.support.embedders import WordEmbedder
from tests.support.shelf import auditor
from workers.attempt.store import PageStore
from workers.audit.mismatch import Mismatch
from workers.reembed.cleanup import GenerationCleanup
from workers.reembed.mover import Mover
from workers.reembed.reembedder import Reembedder, abort_reembedding

OLD: Final = WordEmbedder(model="old")
NEW: Final = WordEmbedder(model="new")
"""Of the same dimension, so that nothing but their fingerprints keeps them apart."""
QUERY: Final = "shared elsewhere"
STEPS: Final = {
    *("hold_collection", "begin_generation", "ensure", "missing_from", "pages_by_key", "put", "upsert"),
    *("put_page_sizes", "advance", "count_rows_in", "close_generation", "fence_off", "switch_generation"),
    *("rest_of_leaving_s", "delete", "settle", "drop", "point", "forget_leaving"),
}
"""Port methods of a re-embedding. Tests kill a process before each of them."""
WINDOW: Final = 2
TOP_K: Final = 50

Answer = list[tuple[str, int, float]]


class BothEmbedders:
    """What an API has that is given the addresses of both services."""

    async def for_fingerprint(self, fingerprint: str) -> Embedder:
        return {embedder.fingerprint: embedder for embedder in (OLD, NEW)}[fingerprint]


@dataclass(frozen=True)
class Library:
    """`records` is the database, for what no port can do."""

    services: Services
    collection: str
    records: Any

    async def begun(self, name: str, pages: int, embedder: Embedder = OLD) -> Document:
        """A document that a worker has claimed, and may write to the current generation."""
        id_ = self.id_of(name)
        stores = self.services
        first = await stores.documents.reserve_page_keys(pages)
        fresh = replace(document(id_, self.collection), object_key=source_key(id_), pages=pages, first_page_key=first)
        await stores.blobs.put(source_key(id_), b"%PDF-", "application/pdf")
        await stores.documents.insert(fresh)
        await stores.documents.mark_queued(fresh)
        claimed = await stores.documents.claim(id_, "w", LEASE_MS)
        generation = await self.store.prepare(claimed, embedder)
        return await stores.documents.plan(id_, claimed.fence, dpi=40, stage="processing", generation=generation)

    async def write(self, begun: Document, embedder: Embedder = OLD) -> Document:
        """The document as `finish` records it."""
        pages = [Page(n, 20, 10, _picture(n), f"shared {begun.id} page{n}") for n in range(1, begun.pages + 1)]
        vectors = await embedder.embed_pages(pages)
        window = [PageVectors(p, begun.page_key(p.page_number), v) for p, v in zip(pages, vectors, strict=True)]
        codes = self.store.code_writer(begun, begun.generation, 0)
        await self.store.write(begun, window, codes)
        return await self.store.completed(begun, codes)

    async def put(self, name: str, pages: int = 3, embedder: Embedder = OLD) -> Document:
        """A document that is ready."""
        begun = await self.begun(name, pages, embedder)
        return await self.services.documents.finish(await self.write(begun, embedder))

    async def delete(self, name: str) -> None:
        stores = self.services
        remover = Remover(stores.documents, stores.vectors, stores.blobs, stores.queue, stores.progress)
        await remover.delete_document(self.id_of(name))

    def id_of(self, name: str) -> str:
        return hashlib.sha256(f"{self.collection}/{name}".encode()).hexdigest()[:32]

    @property
    def store(self) -> PageStore:
        return PageStore(self.services.documents, self.services.blobs, self.services.vectors)

    def searcher(self) -> Searcher:
        return Searcher(
            embedder=BothEmbedders(),
            vectors=self.services.vectors,
            records=self.services.documents,
            blobs=self.services.blobs,
            settings=self.services.settings.search.model_copy(update={"search_mode": SearchMode.SEMANTIC}),
        )

    async def answer(self, searcher: Searcher | None = None) -> Answer:
        """Every page of the collection, each with a score that shows its embedder."""
        hits = await (searcher or self.searcher()).search(self.collection, QUERY, TOP_K)
        return sorted((hit.document_id, hit.page, round(hit.score, 3)) for hit in hits)

    async def pages_found(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for id_, _, _ in await self.answer():
            found[id_] = found.get(id_, 0) + 1
        return found

    async def mismatches(self) -> list[Mismatch]:
        return [mismatch async for mismatch in auditor(self.services).mismatches()]

    async def blob_keys(self, found: Document) -> set[str]:
        keys = await self.services.blobs.list_keys(document_prefix(found.id))
        return {key for key in keys if key.endswith(".vec")}

    async def code_keys(self, found: Document) -> set[str]:
        keys = await self.services.blobs.list_keys(document_prefix(found.id))
        return {key for key in keys if key.endswith(".codes")}

    async def read(self, name: str) -> Document:
        found = await self.services.documents.get(self.id_of(name))
        assert found is not None
        return found

    async def moved(self, pages: int) -> list[Document]:
        """Documents of so many pages that are complete in the coming generation."""
        found = await self.services.documents.list(self.collection)
        return [document for document in found if document.next_pages_done == document.pages == pages]

    async def bound(self) -> Binding:
        bound = await self.services.documents.binding(self.collection)
        assert bound is not None
        return bound

    async def abort(self) -> Binding:
        cleanup = GenerationCleanup(self.services.documents, self.services.vectors, self.store)
        return await abort_reembedding(self.services.documents, cleanup, self.collection)

    async def let_holds_end(self) -> None:
        """As if time had passed since the process that held the collection was killed."""
        await self.records["collections"].update_many({}, {"$set": {"hold_until": 0}})


def reembedder(services: Any, embedder: Embedder = NEW, *, rest_s: float = 0.0) -> Reembedder:
    store = PageStore(services.documents, services.blobs, services.vectors)
    mover = Mover(services.documents, services.blobs, services.vectors, store, embedder, WINDOW)
    cleanup = GenerationCleanup(services.documents, services.vectors, store)
    return Reembedder(services.documents, services.vectors, services.queue, mover, cleanup, rest_s)


def blobs_of(found: Document, generation: int) -> set[str]:
    return {vectors_key(found.id, number, generation) for number in range(1, found.pages + 1)}


def library(services: Services, collection: str) -> Library:
    mongo = services.settings.mongo
    return Library(services, collection, AsyncIOMotorClient(mongo.mongo_uri)[mongo.mongo_database])


@asynccontextmanager
async def open_library(services: Services, collection: str) -> AsyncIterator[Library]:
    """Removes the indexes of the collection at the end of the block."""
    shelf = library(services, collection)
    try:
        yield shelf
    finally:
        bound = await services.documents.binding(collection)
        for index in bound.indexes if bound else [collection]:
            await services.vectors.drop(index)
        shelf.records.client.close()


def _picture(number: int) -> bytes:
    """All of one colour, which stands for the page's number."""
    file = io.BytesIO()
    Image.new("RGB", (20, 10), (number, 0, 255)).save(file, "webp", lossless=True)
    return file.getvalue()


class ActingEmbedder(WordEmbedder):
    """Does something when it is asked for the `at`-th time, before it embeds."""

    def __init__(self, act: Any, at: int = 2) -> None:
        super().__init__(model="new")
        self._act = act
        self._at = at
        self.asked = 0

    async def embed_pages(self, pages: Sequence[Page]) -> list[Vectors]:
        self.asked += 1
        if self.asked == self._at:
            await self._act()
        return await super().embed_pages(pages)


class ScriptedWords(WordEmbedder):
    """NEW, and remembers which pages it saw."""

    def __init__(self) -> None:
        super().__init__(model="new")
        self.seen: list[int] = []

    async def embed_pages(self, pages: Sequence[Page]) -> list[Vectors]:
        self.seen += [page.page_number for page in pages]
        return await super().embed_pages(pages)


class PixelEmbedder(WordEmbedder):
    """Embeds the colour that a page has."""

    wants_pixels = True

    def __init__(self) -> None:
        super().__init__(model="pixels")

    async def embed_pages(self, pages: Sequence[Page]) -> list[Vectors]:
        colours = []
        for page in pages:
            assert page.pixels is not None
            assert page.pixels.shape == (page.height_px, page.width_px, 3)
            colours.append(str(page.pixels[0, 0, 0]))
        return [self._embed(colour) for colour in colours]


class Killed(Exception):
    """The process ends here: it makes no further call."""


class Reaper:
    """Kills a process before the first step that none before it was killed at, which is after the one before that.

    A step is a call of a port's method; `seen` are the steps at which a process was killed.
    """

    def __init__(self, seen: set[str]) -> None:
        self._seen = seen
        self._is_dead = False

    def watched(self, services: Services) -> Any:
        ports = ("documents", "vectors", "blobs", "queue")
        return SimpleNamespace(**{port: _Watched(getattr(services, port), self.meet) for port in ports})

    def meet(self, step: str) -> None:
        if not self._is_dead and step not in self._seen:
            self._seen.add(step)
            self._is_dead = True
        if self._is_dead:
            raise Killed


class _Watched:
    def __init__(self, port: Any, meet: Callable[[str], None]) -> None:
        self._port = port
        self._meet = meet

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any, **kwargs: Any) -> Any:
            self._meet(name)
            return await getattr(self._port, name)(*args, **kwargs)

        return call


class RememberingQueue:
    """The queue, and what has been put off."""

    def __init__(self, queue: JobQueue) -> None:
        self._queue = queue
        self.retried: list[tuple[Record, int]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)

    async def retry(self, record: Record, delay_s: int) -> None:
        await self._queue.retry(record, delay_s)
        self.retried.append((record, delay_s))
