"""Exact scores of candidate pages, and the pages that are kept in memory for them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ingestion import metrics
from ingestion.catalogue.generations import Generation
from ingestion.errors import NotFound, WorkerFault
from ingestion.maxsim import maxsim
from ingestion.model import Vectors, vectors_key
from ingestion.search.candidates import Candidate
from ingestion.search.cpu_threads import CpuThreads
from ingestion.search.reranking import Reranker
from ingestion.vectors.blob import decode_blob, encode_blob
from tests.support.documents import document

DIM = 384
FIRST = Generation(1, "words", DIM)
QUERY = np.random.default_rng(0).standard_normal((7, DIM), np.float32)


class Shelves:
    """A blob store that records its requests."""

    def __init__(self, blobs: dict[str, bytes]) -> None:
        self.blobs = blobs
        self.asked: list[str] = []
        self.open = asyncio.Event()
        self.open.set()

    async def get_many(self, keys: Sequence[str]) -> list[bytes]:
        self.asked += keys
        if keys:
            await self.open.wait()
        if lacking := [key for key in keys if key not in self.blobs]:
            raise NotFound(lacking[0])
        return [self.blobs[key] for key in keys]


def reranker(blobs: Any, *, cache_bytes: int = 0, limit_bytes: int = 1 << 30) -> Reranker:
    return Reranker(blobs, CpuThreads(), cache_bytes=cache_bytes, limit_bytes=limit_bytes)


def pages(*tokens: int) -> list[Vectors]:
    numbers = np.random.default_rng(1)
    return [numbers.standard_normal((count, DIM), np.float32) for count in tokens]


def shelved(vectors: Sequence[Vectors], generation: Generation = FIRST) -> tuple[Any, list[Candidate]]:
    keeper = replace(document(), pages=len(vectors), first_page_key=1)
    candidates = [Candidate(number, number, keeper) for number in range(1, len(vectors) + 1)]
    keys = [vectors_key(keeper.id, page.page_number, generation.number) for page in candidates]
    return Shelves(dict(zip(keys, map(encode_blob, vectors), strict=True))), candidates


async def test_every_page_has_the_score_it_would_have_alone() -> None:
    # Some megabytes, so that they are scored in several blocks, and one page without any vectors.
    vectors = pages(*[700] * 9, 0, 1, 2048, 5)
    blobs, candidates = shelved(vectors)
    ranked = await reranker(blobs, cache_bytes=0).rank(QUERY, candidates, FIRST)
    alone = {number: maxsim(QUERY, [decode_blob(encode_blob(v))])[0] for number, v in enumerate(vectors, 1) if len(v)}
    assert [page.page_key for page, _ in ranked] == sorted(alone, key=lambda number: -alone[number])
    assert [score for _, score in ranked] == pytest.approx(sorted(alone.values(), reverse=True), rel=1e-5)


async def test_no_candidates_give_no_pages() -> None:
    blobs, _ = shelved([])
    assert await reranker(blobs, cache_bytes=0).rank(QUERY, [], FIRST) == []


async def test_pages_in_memory_are_not_fetched_again() -> None:
    blobs, candidates = shelved(pages(3, 4, 5))
    ranks = reranker(blobs, cache_bytes=1_000_000)
    first = await ranks.rank(QUERY, candidates[:2], FIRST)
    assert await ranks.rank(QUERY, candidates[:2], FIRST) == first
    await ranks.rank(QUERY, candidates, FIRST)
    assert sorted(blobs.asked) == sorted(blobs.blobs)


async def test_another_generation_of_a_page_is_another_page() -> None:
    old, candidates = shelved(pages(3))
    ranks = reranker(old, cache_bytes=1_000_000)
    [(_, before)] = await ranks.rank(QUERY, candidates, FIRST)
    second = replace(FIRST, number=2)
    new, _ = shelved([-pages(3)[0]], second)
    old.blobs |= new.blobs
    [(_, after)] = await ranks.rank(QUERY, candidates, second)
    assert after != before


async def test_the_same_name_after_another_upload_is_another_page() -> None:
    blobs, [page] = shelved(pages(3))
    ranks = reranker(blobs, cache_bytes=1_000_000)
    [(_, before)] = await ranks.rank(QUERY, [page], FIRST)
    blobs.blobs = {key: encode_blob(-pages(3)[0]) for key in blobs.blobs}
    [(_, after)] = await ranks.rank(QUERY, [replace(page, page_key=99)], FIRST)
    assert after != before


async def test_a_blob_that_cannot_be_read_is_named_as_the_cause() -> None:
    blobs, candidates = shelved(pages(3))
    blobs.blobs = {key: blob[:-1] for key, blob in blobs.blobs.items()}
    with pytest.raises(WorkerFault, match="vectors cannot be read"):
        await reranker(blobs, cache_bytes=0).rank(QUERY, candidates, FIRST)


async def test_reading_holds_no_place_among_those_that_compute() -> None:
    blobs, candidates = shelved(pages(3, 4, 5, 6))
    ranks = reranker(blobs, cache_bytes=1_000_000)
    await ranks.rank(QUERY, candidates[:1], FIRST)
    blobs.open.clear()
    reading = [asyncio.create_task(ranks.rank(QUERY, candidates[1:], FIRST)) for _ in range(8)]
    async with asyncio.timeout(30):
        assert len(await ranks.rank(QUERY, candidates[:1], FIRST)) == 1
        blobs.open.set()
        assert [len(ranked) for ranked in await asyncio.gather(*reading)] == [3] * 8


async def test_pages_that_are_read_and_scored_at_a_time_take_so_many_bytes_at_most() -> None:
    blobs, candidates = shelved(pages(*[600] * 6))
    page_bytes = len(next(iter(blobs.blobs.values())))
    ranks = reranker(blobs, limit_bytes=int(2.5 * page_bytes))
    await ranks.rank(QUERY, candidates[:1], FIRST)  # now it knows what a page takes
    blobs.open.clear()
    blobs.asked.clear()
    tasks = [asyncio.create_task(ranks.rank(QUERY, [page], FIRST)) for page in candidates]
    async with asyncio.timeout(30):
        while not blobs.asked:
            await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0)
        assert 1 <= len(blobs.asked) <= 2
        tasks[-1].cancel()
        blobs.open.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [len(ranked) for ranked in found[:-1]] == [1] * 5


async def test_a_page_asked_for_more_often_replaces_the_page_not_asked_for_the_longest() -> None:
    blobs, (first, second, third) = shelved(pages(3, 3, 3))
    page_bytes = len(next(iter(blobs.blobs.values())))
    ranks = reranker(blobs, cache_bytes=2 * page_bytes)
    for page in (first, second, first, third, third):
        await ranks.rank(QUERY, [page], FIRST)
    assert metrics.PAGE_CACHE_BYTES._value.get() == 2 * page_bytes
    blobs.asked.clear()
    for page in (first, third, second):
        await ranks.rank(QUERY, [page], FIRST)
    assert blobs.asked == [vectors_key(second.document.id, second.page_number)]


async def test_a_page_larger_than_the_whole_cache_drives_nothing_out_of_it() -> None:
    blobs, (small, large) = shelved(pages(3, 300))
    ranks = reranker(blobs, cache_bytes=10_000)
    for page in (small, large):
        await ranks.rank(QUERY, [page], FIRST)
    blobs.asked.clear()
    await ranks.rank(QUERY, [small, large], FIRST)
    assert blobs.asked == [vectors_key(large.document.id, large.page_number)]
