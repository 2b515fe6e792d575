"""Answers in the query cache are never out of date. Tests every interleaving with a finish and with a delete."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from ingestion import metrics
from ingestion.adapters.mongo.document_store import MongoDocumentStore
from ingestion.adapters.redis.query_cache import RedisQueryCache
from ingestion.bootstrap import Services
from ingestion.errors import LeaseLost
from ingestion.model import Document, Page, PageVectors, source_key
from ingestion.search import Searcher
from tests.support.documents import LEASE_MS, document
from tests.support.embedders import WordEmbedder
from tests.support.interleaving import Gate, Step, Through, orders, run_in_order
from workers.attempt.store import PageStore

MANY = 100


class HaltingStore(MongoDocumentStore):
    """With gates around the compare-and-set of a `finish`, and before that of a `begin_delete`."""

    before: Gate | None = None
    after: Gate | None = None

    async def _change(self, *args: Any) -> Any:
        return await self._between_gates(super()._change, *args)

    async def _change_and_read(self, *args: Any) -> Any:
        return await self._between_gates(super()._change_and_read, *args)

    async def _between_gates(self, change: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        if self.before is not None:
            await self.before.pass_through()
        result = await change(*args)
        if self.after is not None:
            await self.after.pass_through()
        return result


@dataclass
class Library:
    services: Services
    collection: str
    ready: set[str]
    scan_pages: int = 1000
    """0: the index shows pages. Otherwise all pages are listed."""

    def searcher(self, **others: Any) -> Searcher:
        services = replace(self.services, **others)
        settings = services.settings.search.model_copy(update={"search_scan_pages": self.scan_pages})
        return Searcher(
            embedder=WordEmbedder(),
            vectors=services.vectors,
            records=services.documents,
            blobs=services.blobs,
            settings=settings,
            cache=services.query_cache,
        )

    async def found(self, searcher: Searcher | None = None) -> set[str]:
        hits = await (searcher or self.searcher()).search(self.collection, "fox", MANY)
        return {hit.document_id for hit in hits}

    async def written(self, id_: str, key: str = "") -> Document:
        """A document of one page about a fox, before the last step, `finish`."""
        documents = self.services.documents
        store = PageStore(documents, self.services.blobs, self.services.vectors)
        first = await documents.reserve_page_keys(1)
        fresh = replace(document(id_, self.collection), object_key=source_key(id_), pages=1, first_page_key=first)
        fresh = replace(fresh, key=key, revision=first if key else 0)
        await documents.insert(fresh)
        claimed = await documents.claim(id_, "w", LEASE_MS)
        if not self.ready:  # the first document makes the collection
            await store.prepare(claimed, WordEmbedder())
        [vectors] = await WordEmbedder().embed_pages([Page(1, 10, 10, b"picture", f"fox {id_}")])
        codes = store.code_writer(claimed, claimed.generation, 0)
        await store.write(claimed, [PageVectors(Page(1, 10, 10, b"picture", f"fox {id_}"), first, vectors)], codes)
        return await store.completed(claimed, codes)

    async def add(self, id_: str, key: str = "") -> Document:
        claimed = await self.written(id_, key)
        self.ready.add(id_)
        return await self.services.documents.finish(claimed)


@pytest.fixture(params=[1000, 0], ids=["all-pages", "index"])
async def library(services: Services, collection: str, request: pytest.FixtureRequest) -> AsyncIterator[Library]:
    library = Library(services, collection, set(), scan_pages=request.param)
    await library.add("a")
    yield library
    await services.vectors.drop(collection)


@pytest.fixture
async def halting(services: Services) -> AsyncIterator[HaltingStore]:
    async with HaltingStore(services.settings.mongo) as store:
        yield store


def lookups(outcome: str) -> float:
    return metrics.SEARCH_CACHE.labels(outcome)._value.get()


def finding_through(library: Library, gate: Gate) -> dict[str, Any]:
    """The service that finds pages, behind the gate."""
    if library.scan_pages:
        return {"documents": Through(library.services.documents, "ready_page_ranges", gate)}
    return {"vectors": Through(library.services.vectors, "search", gate)}


def search_in_steps(library: Library, answers: list[set[str]] | None = None) -> list[Step]:
    """A search that reads the version, then finds pages, then puts its answer into the cache, and into `answers`."""
    looking, keeping = Gate(), Gate()
    searcher = library.searcher(
        **finding_through(library, looking), query_cache=Through(library.services.query_cache, "put", keeping)
    )
    task: asyncio.Task[set[str]]

    async def read_version() -> None:
        nonlocal task
        task = asyncio.create_task(library.found(searcher))
        await looking.reached_by(task)

    async def look() -> None:
        looking.open()
        await keeping.reached_by(task)

    async def keep() -> None:
        keeping.open()
        found = await task
        if answers is not None:
            answers.append(found)

    return [read_version, look, keep]


def finish_in_steps(library: Library, store: HaltingStore, written: Document) -> list[Step]:
    store.before, store.after = before, after = Gate(), Gate()
    task: asyncio.Task[Document]

    async def announce() -> None:
        nonlocal task
        task = asyncio.create_task(store.finish(written))
        await before.reached_by(task)
        assert not task.done(), "it went around the gate"

    async def become_ready() -> None:
        before.open()
        await after.reached_by(task)
        library.ready.add(written.id)

    async def conclude() -> None:
        after.open()
        await task

    return [announce, become_ready, conclude]


def delete_in_steps(library: Library, store: HaltingStore, ready: Document) -> list[Step]:
    before = store.before = Gate()
    store.after = None
    task: asyncio.Task[Document]

    async def announce() -> None:
        nonlocal task
        task = asyncio.create_task(store.begin_delete(ready.id))
        await before.reached_by(task)
        assert not task.done(), "it went around the gate"

    async def be_gone() -> None:
        before.open()
        await task
        library.ready.discard(ready.id)

    return [announce, be_gone]


async def test_no_interleaving_with_a_finish_makes_an_answer_miss_a_ready_document(
    library: Library, halting: HaltingStore
) -> None:
    async def check() -> None:
        assert await library.found() == library.ready

    for number, order in enumerate(orders(3, 3)):
        written = await library.written(f"b{number}")
        steps = finish_in_steps(library, halting, written)
        await run_in_order(order, search_in_steps(library), steps, check)


async def test_no_interleaving_with_a_delete_makes_an_answer_show_a_deleted_document(
    library: Library, halting: HaltingStore
) -> None:
    async def check() -> None:
        assert await library.found() == library.ready

    for number, order in enumerate(orders(3, 2)):
        ready = await library.add(f"b{number}")
        await check()
        steps = delete_in_steps(library, halting, ready)
        await run_in_order(order, search_in_steps(library), steps, check)


async def test_an_answer_is_cached_until_a_document_comes(library: Library) -> None:
    finding = Gate()
    from_cache = library.searcher(**finding_through(library, finding))
    assert await library.found() == {"a"}
    hits = lookups("hit")
    assert await library.found(from_cache) == {"a"}
    assert lookups("hit") == hits + 1
    await library.add("b")
    assert await library.found() == {"a", "b"}


async def test_a_worker_that_dies_when_its_document_is_ready_leaves_no_answer_behind(
    library: Library, halting: HaltingStore
) -> None:
    written = await library.written("b")
    announce, become_ready, _ = finish_in_steps(library, halting, written)
    await announce()
    assert await library.found() == {"a"}
    await become_ready()
    assert await library.found() == {"a", "b"}
    view = await library.services.documents.searchable(library.collection)
    assert view is not None and view.version is None
    assert await library.services.documents.settle_changes() == 1
    view = await library.services.documents.searchable(library.collection)
    assert view is not None and view.version is not None
    assert await library.found() == {"a", "b"}


async def test_a_change_that_may_yet_come_is_not_settled(library: Library, halting: HaltingStore) -> None:
    written = await library.written("b")
    announce, become_ready, conclude = finish_in_steps(library, halting, written)
    await announce()
    assert await library.services.documents.settle_changes() == 0
    await become_ready()
    await conclude()
    assert await library.found() == {"a", "b"}


async def test_a_finish_that_is_refused_leaves_the_collection_with_a_version(library: Library) -> None:
    written = await library.written("b")
    await library.services.documents.begin_delete("b")
    with pytest.raises(LeaseLost):
        await library.services.documents.finish(written)
    view = await library.services.documents.searchable(library.collection)
    assert view is not None and view.version is not None


async def test_a_collection_made_anew_has_no_version_that_it_had_before(library: Library) -> None:
    documents = library.services.documents
    seen = set()
    for _ in range(3):
        view = await documents.searchable(library.collection)
        assert view is not None and view.version not in seen
        seen.add(view.version)
        await documents.hold_collection(library.collection, "token", lease_ms=60_000)
        await documents.forget_collection(library.collection, "token")
        await documents.bind_collection(library.collection, WordEmbedder().fingerprint, 32)
        await documents.begin_delete("a")


async def test_without_redis_search_is_slower_and_not_broken(library: Library, services: Services) -> None:
    nowhere = services.settings.redis.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    async with RedisQueryCache(nowhere) as down:
        searcher = library.searcher(query_cache=down)
        assert await library.found(searcher) == {"a"}
        assert await library.found(searcher) == {"a"}
        began = asyncio.get_running_loop().time()
        for _ in range(1000):
            assert await down.get("query:x") is None
        assert asyncio.get_running_loop().time() - began < 1, "a Redis that is down is asked again and again"
