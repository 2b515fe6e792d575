"""Searches that share a request to the ANN index."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from ingestion.errors import DependencyUnavailable
from ingestion.model import Vectors
from ingestion.ports import Neighbours
from ingestion.search.coalescing import MAX_REQUEST_ROWS, SearchCoalescer
from ingestion.search.cpu_threads import CpuThreads
from ingestion.search.scoring import PageScores
from tests.support.nearest import neighbours


class Index:
    """Answers each vector with its first component as the page key, once it is let."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, int, int]] = []
        self.stable_for_s: list[float] = []
        self.open = asyncio.Event()
        self.fault: Exception | None = None

    async def search(self, index: str, query: Vectors, limit: int, **options: Any) -> Neighbours:
        self.requests.append((index, len(query), limit))
        self.stable_for_s.append(options["stable_for_s"])
        await self.open.wait()
        if self.fault is not None:
            raise self.fault
        return neighbours([[(int(vector[0]), 1.0)] for vector in query])


def query(*keys: int) -> Vectors:
    return np.array([[key, 0] for key in keys], np.float32)


def coalescer(index: Any, requests: int = 1) -> SearchCoalescer:
    return SearchCoalescer(index, requests, CpuThreads())


async def started(search: SearchCoalescer, *asked: tuple[str, Vectors, int]) -> list[asyncio.Task[PageScores]]:
    """The searches, each having got as far as it can."""
    tasks = [asyncio.create_task(search.search(*one)) for one in asked]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


async def test_those_who_wait_share_the_next_request_and_get_their_own_rows() -> None:
    index = Index()
    search = coalescer(index)
    tasks = await started(search, ("c", query(1), 9), ("c", query(2, 3), 9), ("c", query(4), 9))
    index.open.set()
    assert pages(await asyncio.gather(*tasks)) == [[1], [2, 3], [4]]
    assert index.requests == [("c", 1, 9), ("c", 3, 9)]


async def test_other_collections_and_limits_have_requests_of_their_own_in_the_order_they_came() -> None:
    index = Index()
    search = coalescer(index)
    asked = [("c", query(1), 9), ("d", query(2), 9), ("c", query(3), 36), ("d", query(4), 9)]
    tasks = await started(search, *asked)
    index.open.set()
    await asyncio.gather(*tasks)
    assert index.requests == [("c", 1, 9), ("d", 2, 9), ("c", 1, 36)]


async def test_a_shared_request_misses_no_row_that_one_of_its_searches_has_to_find() -> None:
    index = Index()
    search = coalescer(index)
    asked = [asyncio.create_task(search.search("c", query(1), 9, stable_for_s)) for stable_for_s in (70.0, 60.0, 0.5)]
    await asyncio.sleep(0)
    index.open.set()
    await asyncio.gather(*asked)
    assert index.stable_for_s == [70.0, 0.5]


async def test_no_more_requests_run_at_once_than_are_allowed() -> None:
    index = Index()
    search = coalescer(index, requests=2)
    tasks = await started(search, ("c", query(1), 9), ("d", query(2), 9), ("e", query(3), 9))
    assert len(index.requests) == 2
    index.open.set()
    await asyncio.gather(*tasks)
    assert len(index.requests) == 3


async def test_an_error_reaches_everybody_who_shared_the_request_and_nobody_else() -> None:
    index = Index()
    search = coalescer(index)
    tasks = await started(search, ("c", query(1), 9), ("c", query(2), 9), ("c", query(3), 9))
    index.fault = DependencyUnavailable("milvus", "down")
    index.open.set()
    assert [type(error) for error in await asyncio.gather(*tasks, return_exceptions=True)] == [
        DependencyUnavailable
    ] * 3
    index.fault = None
    assert pages([await search.search("c", query(4), 9)]) == [[4]]


async def test_who_leaves_while_waiting_is_not_searched_for() -> None:
    index = Index()
    search = coalescer(index)
    first, gone, last = await started(search, ("c", query(1), 9), ("c", query(2), 9), ("c", query(3), 9))
    gone.cancel()
    await asyncio.sleep(0)
    index.open.set()
    assert pages(await asyncio.gather(first, last)) == [[1], [3]]
    assert index.requests == [("c", 1, 9), ("c", 1, 9)]


async def test_who_leaves_during_a_request_takes_nothing_from_the_others() -> None:
    index = Index()
    search = coalescer(index)
    first, *others = await started(search, ("c", query(1), 9), ("c", query(2), 9), ("c", query(3), 9))
    first.cancel()
    index.open.set()
    assert pages(await asyncio.gather(*others)) == [[2], [3]]
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_request_asks_for_a_bounded_number_of_rows_whatever_is_waiting() -> None:
    index = Index()
    search = coalescer(index)
    tokens = MAX_REQUEST_ROWS // 200
    tasks = await started(search, *(("c", query(*range(tokens // 2)), 200) for _ in range(5)))
    index.open.set()
    await asyncio.gather(*tasks)
    assert [vectors for _, vectors, _ in index.requests] == [tokens // 2, tokens, tokens]


@pytest.mark.parametrize(("tokens", "limit"), [(3000, 200), (10, 6400), (2, MAX_REQUEST_ROWS + 1)])
async def test_a_search_for_more_rows_than_that_is_sent_in_parts(tokens: int, limit: int) -> None:
    index = Index()
    index.open.set()
    found = await coalescer(index).search("c", query(*range(tokens)), limit)
    assert sorted(found.page_keys.tolist()) == list(range(tokens))
    assert sum(vectors for _, vectors, _ in index.requests) == tokens
    assert all(vectors == 1 or vectors * limit <= MAX_REQUEST_ROWS for _, vectors, _ in index.requests)


def pages(found: list[PageScores]) -> list[list[int]]:
    return [scores.page_keys.tolist() for scores in found]


async def test_searches_within_different_pages_share_no_request() -> None:
    index = Index()
    searches = coalescer(index)
    one, other = [range(1, 2)], [range(1, 2)]
    first = asyncio.create_task(searches.search("c", query(1), 5))
    await asyncio.sleep(0)
    rest = [asyncio.create_task(searches.search("c", query(2), 5, within=within)) for within in (one, one, other)]
    await asyncio.sleep(0)
    index.open.set()
    await asyncio.gather(first, *rest)
    assert index.requests == [("c", 1, 5), ("c", 2, 5), ("c", 1, 5)]
