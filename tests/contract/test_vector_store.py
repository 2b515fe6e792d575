"""The vector store's port, on milvus-lite and on a real Milvus server."""

from __future__ import annotations

import asyncio
import itertools
import re
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import closing

import numpy as np
import pytest
from pymilvus import DataType, MilvusClient

from ingestion.adapters.milvus.names import both_names, index_name, old_index_name
from ingestion.adapters.milvus.store import MilvusVectorStore
from ingestion.errors import DependencyUnavailable, EmbedderMismatch, IndexUnsupported, IngestError, WorkerFault
from ingestion.model import ROWS_PER_PAGE, Page, PageVectors, Vectors
from ingestion.settings import MilvusSettings, Settings
from tests.chaos.proxy import Proxies
from tests.support.nearest import rows_of

DEADLINE_S = 40.0
DIM = 16
SHARED = f"contract_{secrets.token_hex(4)}"
"""A collection that the tests share, each with page keys of its own: a real server takes seconds to make one."""

_page_keys = itertools.count(1, 1000)


@pytest.fixture(params=["milvus-lite", "milvus"], scope="session")
def uri(request: pytest.FixtureRequest, server_env: dict[str, str]) -> Iterator[str]:
    if request.param == "milvus":
        uri = str(request.getfixturevalue("milvus_server"))
    else:
        uri = server_env["PAGEMILL_MILVUS_URI"]
    yield uri
    with closing(MilvusClient(uri=uri, timeout=30)) as client:
        client.drop_collection(index_name(SHARED))


@pytest.fixture
def milvus(uri: str, settings: Settings) -> MilvusSettings:
    return settings.milvus.model_copy(update={"milvus_uri": uri})


@pytest.fixture
async def store(milvus: MilvusSettings) -> AsyncIterator[MilvusVectorStore]:
    async with MilvusVectorStore(milvus) as store:
        await store.ensure(SHARED, DIM)
        yield store


@pytest.fixture
async def own_collection(store: MilvusVectorStore, collection: str) -> AsyncIterator[str]:
    """The name of a collection that is dropped after the test; Milvus does not allow it as it is."""
    yield f"{collection}-own"
    await store.drop(f"{collection}-own")


@pytest.fixture
def behind_its_back(uri: str) -> Iterator[MilvusClient]:
    """Another client of the same server."""
    with closing(MilvusClient(uri=uri, timeout=30)) as client:
        yield client


@pytest.fixture
def first_key() -> int:
    return next(_page_keys)


def unit_rows(count: int, dim: int = DIM, seed: int = 0) -> Vectors:
    rows = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def page_of(page_key: int, vectors: Vectors) -> PageVectors:
    page = Page(page_number=1, width_px=1, height_px=1, image=b"", text="")
    return PageVectors(page=page, page_key=page_key, vectors=vectors)


async def found_pages(store: MilvusVectorStore, collection: str, query: Vectors, limit: int = 1) -> list[list[int]]:
    return [[page_key for page_key, _ in rows] for rows in rows_of(await store.search(collection, query, limit))]


async def test_rows_are_found_as_soon_as_the_write_returns(store: MilvusVectorStore, first_key: int) -> None:
    vectors = unit_rows(40, seed=first_key)
    pages = [page_of(first_key, vectors[:25]), page_of(first_key + 1, vectors[25:])]
    await store.upsert(SHARED, pages)
    expected = [[first_key]] * 25 + [[first_key + 1]] * 15
    assert await found_pages(store, SHARED, vectors) == expected


async def test_a_search_that_may_miss_what_is_new_finds_it_once_it_is_not(
    store: MilvusVectorStore, first_key: int
) -> None:
    vectors = unit_rows(10, seed=first_key)
    await store.upsert(SHARED, [page_of(first_key, vectors)])
    async with asyncio.timeout(DEADLINE_S):
        while [
            [key for key, _ in hits] for hits in rows_of(await store.search(SHARED, vectors, 1, stable_for_s=3600.0))
        ] != [[first_key]] * 10:
            await asyncio.sleep(0.1)


async def test_scores_are_inner_products_best_first(store: MilvusVectorStore, own_collection: str) -> None:
    await store.ensure(own_collection, DIM)
    rows, query = unit_rows(50, seed=1), unit_rows(3, seed=2)
    await store.upsert(own_collection, [page_of(7, rows)])
    for token, hits in zip(query, rows_of(await store.search(own_collection, query, 10)), strict=True):
        assert {page_key for page_key, _ in hits} == {7}
        np.testing.assert_allclose([score for _, score in hits], np.sort(rows @ token)[::-1][:10], atol=1e-5)


async def test_an_answer_holds_keys_and_scores_and_nothing_else_of_a_row(
    store: MilvusVectorStore, own_collection: str, milvus: MilvusSettings
) -> None:
    dim, tokens, limit = 384, 4, 50
    await store.ensure(own_collection, dim)
    await store.upsert(own_collection, [page_of(1, unit_rows(200, dim, seed=1))])
    with Proxies() as proxies:
        proxy = proxies.to(milvus.milvus_uri.removeprefix("http://"))
        behind = milvus.model_copy(update={"milvus_uri": f"http://{proxy.address}"})
        async with MilvusVectorStore(behind) as watched:
            await watched.search(own_collection, unit_rows(1, dim), 1)  # connects, and has what it needs to know
            before = proxy.sent_bytes
            found = await watched.search(own_collection, unit_rows(tokens, dim, seed=2), limit)
            sent_bytes = proxy.sent_bytes - before
    assert len(found.page_keys) == tokens * limit
    # A vector is 1,536 bytes. A key, a page key and a score take at most 24 of them, and a request has its own few.
    assert sent_bytes <= 24 * tokens * limit + 2_000


async def test_rows_are_read_back_bit_by_bit_and_in_order(store: MilvusVectorStore, first_key: int) -> None:
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


async def test_writing_twice_is_the_same_as_once(store: MilvusVectorStore, first_key: int) -> None:
    page = page_of(first_key, unit_rows(30, seed=first_key))
    await store.upsert(SHARED, [page])
    await store.upsert(SHARED, [page])
    assert await store.count_rows(SHARED, first_key, 1) == 30


async def test_a_second_write_replaces_the_vectors(store: MilvusVectorStore, first_key: int) -> None:
    old, new = unit_rows(2, seed=first_key)
    await store.upsert(SHARED, [page_of(first_key, old[None])])
    await store.upsert(SHARED, [page_of(first_key, new[None])])
    [[(page_key, score)]] = rows_of(await store.search(SHARED, new[None], 1))
    assert (page_key, score) == (first_key, pytest.approx(1.0, abs=1e-5))


async def test_rows_of_several_ranges_of_pages_are_counted_together(
    store: MilvusVectorStore, first_key: int, own_collection: str
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
        await store.count_rows_in(SHARED, [range(first_key + 10 * n, first_key + 10 * n + 9) for n in range(64)]) == 21
    )
    assert await store.count_rows_in(SHARED, []) == 0
    assert await store.count_rows_in(own_collection, ranges) == 0


async def test_a_page_without_vectors_writes_nothing(store: MilvusVectorStore, first_key: int) -> None:
    await store.upsert(SHARED, [page_of(first_key, np.zeros((0, DIM), np.float32))])
    assert await store.count_rows(SHARED, first_key, 1) == 0


async def test_a_write_larger_than_one_request_is_whole(store: MilvusVectorStore, own_collection: str) -> None:
    dim = 4096
    await store.ensure(own_collection, dim)
    rows = unit_rows(600, dim)  # 9.8 MB, two requests
    await store.upsert(own_collection, [page_of(1, rows[:400]), page_of(2, rows[400:])])
    assert await store.count_rows(own_collection, 1, 2) == 600
    assert await found_pages(store, own_collection, rows[[0, 399, 400, 599]]) == [[1], [1], [2], [2]]


async def test_more_vectors_than_a_page_can_hold_are_refused(store: MilvusVectorStore, first_key: int) -> None:
    with pytest.raises(WorkerFault):
        await store.upsert(SHARED, [page_of(first_key, unit_rows(ROWS_PER_PAGE + 1))])


async def test_deleting_pages_leaves_their_neighbours(store: MilvusVectorStore, first_key: int) -> None:
    vectors = unit_rows(4, seed=first_key)
    await store.upsert(SHARED, [page_of(first_key + i, vectors[i][None]) for i in range(4)])
    await store.delete_pages(SHARED, first_key + 1, 2)
    assert [await store.count_rows(SHARED, first_key + i, 1) for i in range(4)] == [1, 0, 0, 1]
    found = await found_pages(store, SHARED, vectors)
    assert found[0] == [first_key]
    assert found[1] != [first_key + 1]
    assert found[2] != [first_key + 2]
    assert found[3] == [first_key + 3]


async def test_deleting_many_pages_reaches_the_last(store: MilvusVectorStore, first_key: int) -> None:
    vector = unit_rows(1, seed=first_key)
    await store.upsert(SHARED, [page_of(first_key, vector), page_of(first_key + 599, vector)])
    await store.delete_pages(SHARED, first_key, 600)
    assert await store.count_rows(SHARED, first_key, 600) == 0


async def test_deleted_pages_can_be_written_again(store: MilvusVectorStore, first_key: int) -> None:
    page = page_of(first_key, unit_rows(5, seed=first_key))
    for _ in range(2):
        await store.upsert(SHARED, [page])
        await store.delete_pages(SHARED, first_key, 1)
    await store.upsert(SHARED, [page])
    assert await store.count_rows(SHARED, first_key, 1) == 5


async def test_counts_grow_by_the_rows_written(store: MilvusVectorStore, first_key: int) -> None:
    before = await store.count(SHARED)
    await store.upsert(SHARED, [page_of(first_key, unit_rows(11, seed=first_key))])
    assert await store.count(SHARED) == before + 11


async def test_an_unknown_collection_is_empty_and_no_error(store: MilvusVectorStore, collection: str) -> None:
    assert rows_of(await store.search(collection, unit_rows(2), 5)) == [[], []]
    assert await store.count(collection) == 0
    assert await store.count_rows(collection, 1, 5) == 0
    await store.delete_pages(collection, 1, 5)
    await store.drop(collection)


async def test_a_query_without_tokens_has_no_rows(store: MilvusVectorStore) -> None:
    assert rows_of(await store.search(SHARED, np.zeros((0, DIM), np.float32), 5)) == []


async def test_more_rows_may_be_asked_for_than_a_server_gives(store: MilvusVectorStore, first_key: int) -> None:
    vectors = unit_rows(3, seed=first_key)
    await store.upsert(SHARED, [page_of(first_key, vectors)])
    [rows] = rows_of(await store.search(SHARED, vectors[:1], 20_000))
    assert rows[0][0] == first_key


async def test_workers_may_make_the_same_collection_at_once(milvus: MilvusSettings, collection: str) -> None:
    async with MilvusVectorStore(milvus) as one, MilvusVectorStore(milvus) as other:
        await asyncio.gather(*(store.ensure(collection, DIM) for store in (one, other, one, other)))
        assert rows_of(await one.search(collection, unit_rows(2), 5)) == [[], []]
        await one.upsert(collection, [page_of(1, unit_rows(3))])
        assert await other.count(collection) == 3
        await other.drop(collection)
        assert await one.count(collection) == 0


async def test_a_collection_that_the_server_has_released_is_loaded_again(
    store: MilvusVectorStore, first_key: int, behind_its_back: MilvusClient
) -> None:
    vectors = unit_rows(2, seed=first_key)
    await store.upsert(SHARED, [page_of(first_key, vectors)])
    behind_its_back.release_collection(index_name(SHARED))
    assert await found_pages(store, SHARED, vectors) == [[first_key], [first_key]]


async def test_another_dimension_is_refused(store: MilvusVectorStore) -> None:
    with pytest.raises(EmbedderMismatch):
        await store.ensure(SHARED, DIM + 1)


async def test_an_index_of_shorter_vectors_finds_the_same_where_the_server_has_it(
    milvus: MilvusSettings, own_collection: str
) -> None:
    vectors = unit_rows(200, seed=9)
    async with MilvusVectorStore(milvus.model_copy(update={"index_type": "HNSW_SQ"})) as store:
        try:
            await store.ensure(own_collection, DIM)
        except IndexUnsupported as error:
            assert "PAGEMILL_INDEX_TYPE=HNSW_SQ" in error.message
            assert "2.3.5" in error.message, "only a server from before 2.5 may lack it"
            return
        await store.upsert(own_collection, [page_of(n, vectors[50 * n : 50 * n + 50]) for n in range(4)])
        assert await found_pages(store, own_collection, vectors) == [[n] for n in range(4) for _ in range(50)]


async def test_milvus_lite_is_not_asked_for_what_it_would_make_something_else_of(
    uri: str, milvus: MilvusSettings, own_collection: str
) -> None:
    async with MilvusVectorStore(
        milvus.model_copy(update={"index_type": "HNSW_SQ", "index_sq_type": "BF16"})
    ) as store:
        with pytest.raises(IndexUnsupported, match=r"PAGEMILL_INDEX_(SQ_)?TYPE="):
            await store.ensure(own_collection, DIM)


async def test_a_collection_dropped_by_another_process_is_noticed_and_made_again(
    store: MilvusVectorStore, own_collection: str, behind_its_back: MilvusClient
) -> None:
    await store.ensure(own_collection, DIM)
    await store.upsert(own_collection, [page_of(1, unit_rows(2))])
    behind_its_back.drop_collection(index_name(own_collection))
    assert rows_of(await store.search(own_collection, unit_rows(1), 5)) == [[]]
    # Making it again here would hide that the document's earlier pages are gone.
    with pytest.raises(IngestError):
        await store.upsert(own_collection, [page_of(2, unit_rows(2))])
    await store.ensure(own_collection, DIM)
    await store.upsert(own_collection, [page_of(1, unit_rows(2))])
    assert await store.count(own_collection) == 2


def test_different_collections_have_different_indexes() -> None:
    names = ["a-b", "a_b", "a--b", "a-_b", "a_-b", "x_a_b", "A-b"]
    assert len({index_name(name) for name in names}) == len(names)
    assert all(re.fullmatch(r"pagemillx?_[A-Za-z0-9_]+", index_name(name)) for name in names)
    assert both_names("a_b") == ("pagemill_a_b", "colqwen_a_b")


def made_by_an_old_release(client: MilvusClient, collection: str, first_key: int, vectors: Vectors) -> None:
    """An index under its old name, with one page."""
    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("pk", DataType.INT64, is_primary=True)
    schema.add_field("page_key", DataType.INT64)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=vectors.shape[1])
    index = client.prepare_index_params()
    graph = {"M": 16, "efConstruction": 64}
    index.add_index("vector", index_type="HNSW", metric_type="IP", params={**graph, "params": graph})
    client.create_collection(old_index_name(collection), schema=schema, index_params=index)
    rows = [
        {"pk": first_key * ROWS_PER_PAGE + patch, "page_key": first_key, "vector": vector}
        for patch, vector in enumerate(vectors)
    ]
    client.insert(old_index_name(collection), rows)


async def test_an_index_of_an_old_release_is_used_under_its_old_name_until_it_is_dropped(
    milvus: MilvusSettings, store: MilvusVectorStore, own_collection: str, behind_its_back: MilvusClient
) -> None:
    vectors = unit_rows(20, seed=3)
    made_by_an_old_release(behind_its_back, own_collection, 1, vectors[:10])

    # Each is the first request of a process.
    async with MilvusVectorStore(milvus) as api:
        assert await found_pages(api, own_collection, vectors[:10]) == [[1]] * 10
    async with MilvusVectorStore(milvus) as auditor:
        assert await auditor.count(own_collection) == 10
        assert await auditor.count_rows(own_collection, 1, 1) == 10
    async with MilvusVectorStore(milvus) as archiver:
        np.testing.assert_allclose((await archiver.read_pages(own_collection, range(1, 2)))[1], vectors[:10], 1e-6)
    async with MilvusVectorStore(milvus) as late:
        await late.upsert(own_collection, [page_of(2, vectors[10:15])])

    await store.ensure(own_collection, DIM)
    await store.upsert(own_collection, [page_of(3, vectors[15:])])
    assert not behind_its_back.has_collection(index_name(own_collection))
    assert await found_pages(store, own_collection, vectors) == [[1]] * 10 + [[2]] * 5 + [[3]] * 5
    await store.delete_pages(own_collection, 1, 2)
    assert await store.count(own_collection) == 5

    # Another process drops it; what is made after that has the new name.
    async with MilvusVectorStore(milvus) as remover:
        await remover.drop(own_collection)
    assert not any(behind_its_back.has_collection(name) for name in both_names(own_collection))
    assert await store.count(own_collection) == 0
    with pytest.raises(IngestError):
        await store.upsert(own_collection, [page_of(2, vectors[:1])])
    await store.ensure(own_collection, DIM)
    assert behind_its_back.has_collection(index_name(own_collection))
    assert not behind_its_back.has_collection(old_index_name(own_collection))
    await store.upsert(own_collection, [page_of(1, vectors)])
    assert await store.count(own_collection) == 20


async def test_ping_answers(store: MilvusVectorStore) -> None:
    await store.ping()


async def test_a_server_that_is_not_there_is_unavailable(unused_tcp_port: int) -> None:
    settings = MilvusSettings(milvus_uri=f"http://127.0.0.1:{unused_tcp_port}")
    async with MilvusVectorStore(settings) as store:
        with pytest.raises(DependencyUnavailable) as caught:
            await store.ping()
    assert caught.value.dependency == "milvus"
    assert caught.value.__cause__ is not None
