"""How many searches are let in, and what the event loop does for them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

from ingestion.catalogue.generations import Binding, Generation
from ingestion.errors import BadRequest, DependencyUnavailable, Overloaded
from ingestion.model import DocumentState, Vectors
from ingestion.ports import Neighbours, Searchable
from ingestion.search import Searcher, coalescing, hit_maker, reranking
from ingestion.search.admission import Admission, cost_in_rows, estimated_tokens
from ingestion.search.planning import LEAST_COST_ROWS
from ingestion.settings import SearchSettings
from ingestion.vectors.blob import encode_blob
from tests.support.documents import document
from tests.support.nearest import neighbours
from tests.support.one_document import RecordsOfOne

DIM = 4
LIMIT = LEAST_COST_ROWS
"""The cost of a token."""
ONE = cost_in_rows(estimated_tokens("one search"), LIMIT)
KEPT = replace(document("kept"), state=DocumentState.READY, pages=5, first_page_key=1)


class World(RecordsOfOne):
    """All ports of a search, in memory. A port that is `closed` waits until it is opened."""

    fingerprint = "words"

    def __init__(self) -> None:
        super().__init__(KEPT)
        self.gates = {name: asyncio.Event() for name in ("embedder", "index", "blobs")}
        for gate in self.gates.values():
            gate.set()
        self.under_way = dict.fromkeys(self.gates, 0)
        self.fault: Exception | None = None
        self.tokens = 3

    async def _pass(self, name: str) -> None:
        self.under_way[name] += 1
        try:
            await self.gates[name].wait()
        finally:
            self.under_way[name] -= 1
        if self.fault is not None:
            raise self.fault

    async def for_fingerprint(self, fingerprint: str) -> World:
        return self

    async def embed_queries(self, queries: Sequence[str]) -> list[Vectors]:
        await self._pass("embedder")
        return [np.ones((self.tokens, DIM), np.float32) for _ in queries]

    async def search(self, index: str, query: Vectors, limit: int, **options: Any) -> Neighbours:
        await self._pass("index")
        return neighbours([[(key, 0.5) for key in KEPT.page_keys] for _ in query])

    async def searchable(self, collection: str) -> Searchable | None:
        return (
            Searchable(Binding(collection, Generation(1, self.fingerprint, DIM)), "1") if collection == "c" else None
        )

    async def binding(self, collection: str) -> Binding:
        return Binding(collection, Generation(1, self.fingerprint, DIM))

    async def get_many(self, keys: Sequence[str]) -> list[bytes]:
        await self._pass("blobs")
        return [encode_blob(np.ones((2, DIM), np.float32)) for _ in keys]

    async def presign(self, key: str, expires_s: int) -> str:
        return f"http://{key}"

    def searcher(self, *, limit_rows: int = 3 * ONE, **settings: Any) -> Searcher:
        own = SearchSettings(search_limit_rows=limit_rows, search_ann_limit=LIMIT, search_ann_requests=1)
        world = cast(Any, self)
        return Searcher(
            embedder=world,
            vectors=world,
            records=world,
            blobs=world,
            settings=own.model_copy(update={"search_page_cache_bytes": 0, **settings}),
        )


@pytest.fixture
async def world() -> World:
    return World()


async def settled(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0)


async def all_of(tasks: Sequence[Awaitable[Any]]) -> list[Any]:
    async with asyncio.timeout(30):
        return await asyncio.gather(*tasks, return_exceptions=True)


def one(searching: Searcher, collection: str = "c") -> asyncio.Task[Any]:
    return asyncio.create_task(searching.search(collection, "one search", 5))


@pytest.mark.parametrize("closed", ["embedder", "index", "blobs"])
async def test_whatever_is_slow_only_so_many_searches_wait_for_it(world: World, closed: str) -> None:
    world.gates[closed].clear()
    searching = world.searcher()
    first = [one(searching) for _ in range(3)]
    refused = await all_of([one(searching) for _ in range(200)])
    assert {type(error) for error in refused} == {Overloaded}
    assert {error.retry_after_s for error in refused} == {1}
    assert world.under_way[closed] <= 3
    world.gates[closed].set()
    assert [len(hits) for hits in await all_of(first)] == [5, 5, 5]
    assert len(await one(searching)) == 5


async def test_a_caller_that_leaves_frees_its_place(world: World) -> None:
    world.gates["index"].clear()
    searching = world.searcher()
    waiting = [one(searching) for _ in range(3)]
    await settled(lambda: world.under_way["index"] == 1)
    with pytest.raises(Overloaded):
        searching.check_capacity()
    for task in waiting:
        task.cancel()
    await all_of(waiting)
    searching.check_capacity()
    world.gates["index"].set()
    assert len(await one(searching)) == 5


async def test_a_search_that_fails_frees_its_place(world: World) -> None:
    searching = world.searcher(limit_rows=ONE)
    world.fault = DependencyUnavailable("milvus", "down")
    for _ in range(3):
        with pytest.raises(DependencyUnavailable):
            await one(searching)
    world.fault = None
    assert len(await one(searching)) == 5


async def test_an_embedder_that_is_full_makes_the_search_say_when_to_come_back(world: World) -> None:
    world.fault = Overloaded("embedder", 7)
    with pytest.raises(Overloaded) as refused:
        await one(world.searcher())
    assert refused.value.retry_after_s == 7


async def test_a_query_that_turns_out_to_be_longer_takes_the_room_of_others(world: World) -> None:
    world.gates["index"].clear()
    world.tokens = 1000
    searching = world.searcher()
    long = one(searching)
    await settled(lambda: world.under_way["index"] == 1)
    with pytest.raises(Overloaded):
        await one(searching)
    world.gates["index"].set()
    await long
    assert len(await one(searching)) == 5


async def test_what_is_computed_for_a_search_is_not_computed_on_the_event_loop(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: dict[str, set[int]] = {}

    def noting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any, **kwargs: Any) -> Any:
            threads.setdefault(name, set()).add(threading.get_ident())
            return function(*args, **kwargs)

        return noted

    heavy = (
        (coalescing, "page_scores"),
        (coalescing, "combined"),
        (reranking, "maxsim_of_blobs"),
        (hit_maker, "snippet"),
    )
    for module, name in heavy:
        monkeypatch.setattr(module, name, noting(name, getattr(module, name)))
    monkeypatch.setattr(coalescing, "MAX_REQUEST_ROWS", LIMIT)  # so that a query is asked for in parts
    await one(world.searcher())
    assert set(threads) == {name for _, name in heavy}
    assert all(threading.get_ident() not in used for used in threads.values())


@pytest.mark.parametrize("collection", ["c", "there-is-none"])
@pytest.mark.parametrize("query", ["\ud83d", "a \udce9 b", "\udfff" * 5000])
async def test_half_a_surrogate_pair_is_refused_in_every_collection(world: World, collection: str, query: str) -> None:
    with pytest.raises(BadRequest, match="surrogate" if len(query) < 5000 else "."):
        await world.searcher().search(collection, query, 5)


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_search_larger_than_all_the_room_is_let_in_alone() -> None:
    admission = Admission(100)
    with admission.admit(1000), pytest.raises(Overloaded), admission.admit(1):
        pass
    with admission.admit(1), pytest.raises(Overloaded), admission.admit(1000):
        pass
    assert (admission.searches, admission.rows) == (0, 0)


def test_a_refusal_says_when_there_should_be_room_at_the_pace_of_the_last_seconds() -> None:
    clock = Clock()
    admission = Admission(100, clock)
    with admission.admit(50):
        with admission.admit(50):
            clock.now_s += 10.0
        with admission.admit(50), pytest.raises(Overloaded) as refused:
            admission.check_capacity(30)
        assert refused.value.retry_after_s == 6  # 30 rows too many, at 5 a second
