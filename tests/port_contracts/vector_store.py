"""VectorStore."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from typing import Final

import numpy as np
import pytest

from ingestion.errors import EmbedderMismatch, WorkerFault
from ingestion.model import ROWS_PER_PAGE, Page, PageVectors, Vectors
from ingestion.ports import VectorStore
from tests.support.nearest import rows_of

DEADLINE_S: Final = 40.0
DIM: Final = 16
SHARED: Final = f"contract_{secrets.token_hex(4)}"
"""A collection that the tests share, each with page keys of its own: a real server takes seconds to make one."""

_page_keys = itertools.count(1, 1000)


@pytest.fixture
def first_key() -> int:
    return next(_page_keys)


def unit_rows(count: int, dim: int = DIM, seed: int = 0) -> Vectors:
    rows = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def page_of(page_key: int, vectors: Vectors) -> PageVectors:
    page = Page(page_number=1, width_px=1, height_px=1, image=b"", text="")
    return PageVectors(page=page, page_key=page_key, vectors=vectors)


async def found_pages(store: VectorStore, collection: str, query: Vectors, limit: int = 1) -> list[list[int]]:
    return [[page_key for page_key, _ in rows] for rows in rows_of(await store.search(collection, query, limit))]


class VectorStoreContract:
    """Needs the fixtures `store`, where the collection SHARED is, `first_key`, and the names of two collections:
    `own_collection` and `collection`."""

    async def test_rows_are_found_as_soon_as_the_write_returns(self, store: VectorStore, first_key: int) -> None:
        vectors = unit_rows(40, seed=first_key)
        pages = [page_of(first_key, vectors[:25]), page_of(first_key + 1, vectors[25:])]
        await store.upsert(SHARED, pages)
        expected = [[first_key]] * 25 + [[first_key + 1]] * 15
        assert await found_pages(store, SHARED, vectors) == expected

    async def test_a_search_that_may_miss_what_is_new_finds_it_once_it_is_not(
        self, store: VectorStore, first_key: int
    ) -> None:
        vectors = unit_rows(10, seed=first_key)
        await store.upsert(SHARED, [page_of(first_key, vectors)])
        async with asyncio.timeout(DEADLINE_S):
            while [
                [key for key, _ in hits]
                for hits in rows_of(await store.search(SHARED, vectors, 1, stable_for_s=3600.0))
            ] != [[first_key]] * 10:
                await asyncio.sleep(0.1)

    async def test_scores_are_inner_products_best_first(self, store: VectorStore, own_collection: str) -> None:
        await store.ensure(own_collection, DIM)
        rows, query = unit_rows(50, seed=1), unit_rows(3, seed=2)
        await store.upsert(own_collection, [page_of(7, rows)])
        for token, hits in zip(query, rows_of(await store.search(own_collection, query, 10)), strict=True):
            assert {page_key for page_key, _ in hits} == {7}
            np.testing.assert_allclose([score for _, score in hits], np.sort(rows @ token)[::-1][:10], atol=1e-5)

    async def test_a_search_within_pages_looks_at_no_other_rows(self, store: VectorStore, own_collection: str) -> None:
        await store.ensure(own_collection, DIM)
        near, far = unit_rows(600, seed=3), -unit_rows(600, seed=3)[:1]
        await store.upsert(own_collection, [page_of(key, near[key : key + 1]) for key in range(1, 500)])
        wanted = [900, 902, *range(1000, 1060, 3)]
        await store.upsert(own_collection, [page_of(key, far) for key in (*wanted, 901)])
        for within in ([range(900, 901), range(902, 903)], [range(key, key + 1) for key in wanted]):
            allowed = {key for keys in within for key in keys}
            for hits in rows_of(await store.search(own_collection, near[:2], 100, within=within)):
                assert {key for key, _ in hits} == allowed
        assert rows_of(await store.search(own_collection, near[:2], 100, within=[])) == [[], []]

    async def test_rows_are_read_back_bit_by_bit_and_in_order(self, store: VectorStore, first_key: int) -> None:
        counts = {first_key: 3, first_key + 2: 1, first_key + 3: 9}
        pages = {key: unit_rows(count, seed=key) for key, count in counts.items()}
        await store.upsert(SHARED, [page_of(key, vectors) for key, vectors in reversed(pages.items())])
        read = await store.read_pages(SHARED, range(first_key, first_key + 3))
        assert list(read) == [first_key, first_key + 2]
        for key, vectors in read.items():
            np.testing.assert_array_equal(vectors, pages[key])
            assert vectors.dtype == np.float32
        assert await store.read_pages(SHARED, range(first_key + 4, first_key + 900)) == {}
        assert await store.read_pages("unknown", range(1, 9)) == {}

    async def test_writing_twice_is_the_same_as_once(self, store: VectorStore, first_key: int) -> None:
        page = page_of(first_key, unit_rows(30, seed=first_key))
        await store.upsert(SHARED, [page])
        await store.upsert(SHARED, [page])
        assert await store.count_rows(SHARED, first_key, 1) == 30

    async def test_a_second_write_replaces_the_vectors(self, store: VectorStore, first_key: int) -> None:
        old, new = unit_rows(2, seed=first_key)
        await store.upsert(SHARED, [page_of(first_key, old[None])])
        await store.upsert(SHARED, [page_of(first_key, new[None])])
        [[(page_key, score)]] = rows_of(await store.search(SHARED, new[None], 1))
        assert (page_key, score) == (first_key, pytest.approx(1.0, abs=1e-5))

    async def test_rows_of_several_ranges_of_pages_are_counted_together(
        self, store: VectorStore, first_key: int, own_collection: str
    ) -> None:
        pages = [page_of(first_key + n, unit_rows(n + 1, seed=first_key + n)) for n in range(6)]
        await store.upsert(SHARED, pages)
        ranges = [
            range(first_key, first_key + 2),
            range(first_key + 4, first_key + 5),
            range(first_key + 90, first_key + 99),
        ]
        assert await store.count_rows_in(SHARED, ranges) == 1 + 2 + 5
        assert (
            await store.count_rows_in(SHARED, [range(first_key + 10 * n, first_key + 10 * n + 9) for n in range(64)])
            == 21
        )
        assert await store.count_rows_in(SHARED, []) == 0
        assert await store.count_rows_in(own_collection, ranges) == 0

    async def test_a_page_without_vectors_writes_nothing(self, store: VectorStore, first_key: int) -> None:
        await store.upsert(SHARED, [page_of(first_key, np.zeros((0, DIM), np.float32))])
        assert await store.count_rows(SHARED, first_key, 1) == 0

    async def test_more_vectors_than_a_page_can_hold_are_refused(self, store: VectorStore, first_key: int) -> None:
        with pytest.raises(WorkerFault):
            await store.upsert(SHARED, [page_of(first_key, unit_rows(ROWS_PER_PAGE + 1))])

    async def test_deleting_pages_leaves_their_neighbours(self, store: VectorStore, first_key: int) -> None:
        vectors = unit_rows(4, seed=first_key)
        await store.upsert(SHARED, [page_of(first_key + i, vectors[i][None]) for i in range(4)])
        await store.delete_pages(SHARED, first_key + 1, 2)
        assert [await store.count_rows(SHARED, first_key + i, 1) for i in range(4)] == [1, 0, 0, 1]
        found = await found_pages(store, SHARED, vectors)
        assert found[0] == [first_key]
        assert found[1] != [first_key + 1]
        assert found[2] != [first_key + 2]
        assert found[3] == [first_key + 3]

    async def test_deleting_many_pages_reaches_the_last(self, store: VectorStore, first_key: int) -> None:
        vector = unit_rows(1, seed=first_key)
        await store.upsert(SHARED, [page_of(first_key, vector), page_of(first_key + 599, vector)])
        await store.delete_pages(SHARED, first_key, 600)
        assert await store.count_rows(SHARED, first_key, 600) == 0

    async def test_deleted_pages_can_be_written_again(self, store: VectorStore, first_key: int) -> None:
        page = page_of(first_key, unit_rows(5, seed=first_key))
        for _ in range(2):
            await store.upsert(SHARED, [page])
            await store.delete_pages(SHARED, first_key, 1)
        await store.upsert(SHARED, [page])
        assert await store.count_rows(SHARED, first_key, 1) == 5

    async def test_counts_grow_by_the_rows_written(self, store: VectorStore, first_key: int) -> None:
        before = await store.count(SHARED)
        await store.upsert(SHARED, [page_of(first_key, unit_rows(11, seed=first_key))])
        assert await store.count(SHARED) == before + 11

    async def test_an_unknown_collection_is_empty_and_no_error(self, store: VectorStore, collection: str) -> None:
        assert rows_of(await store.search(collection, unit_rows(2), 5)) == [[], []]
        assert await store.count(collection) == 0
        assert await store.count_rows(collection, 1, 5) == 0
        await store.delete_pages(collection, 1, 5)
        await store.drop(collection)

    async def test_a_query_without_tokens_has_no_rows(self, store: VectorStore) -> None:
        assert rows_of(await store.search(SHARED, np.zeros((0, DIM), np.float32), 5)) == []

    async def test_more_rows_may_be_asked_for_than_a_server_gives(self, store: VectorStore, first_key: int) -> None:
        vectors = unit_rows(3, seed=first_key)
        await store.upsert(SHARED, [page_of(first_key, vectors)])
        [rows] = rows_of(await store.search(SHARED, vectors[:1], 20_000))
        assert rows[0][0] == first_key

    async def test_another_dimension_is_refused(self, store: VectorStore) -> None:
        with pytest.raises(EmbedderMismatch):
            await store.ensure(SHARED, DIM + 1)

    async def test_ping_answers(self, store: VectorStore) -> None:
        await store.ping()
