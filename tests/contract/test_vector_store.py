"""The vector store's port, on milvus-lite and on a real Milvus server."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing

import numpy as np
import pytest
from pymilvus import DataType, MilvusClient

from ingestion.adapters.milvus.names import IndexNames, index_name, old_index_name
from ingestion.adapters.milvus.store import MilvusVectorStore
from ingestion.errors import DependencyUnavailable, IndexUnsupported, IngestError
from ingestion.model import ROWS_PER_PAGE, PageVectors, Vectors
from ingestion.settings import MilvusSettings, Settings
from tests.chaos.proxy import Proxies
from tests.port_contracts.vector_store import DIM, SHARED, VectorStoreContract, found_pages, page_of, unit_rows
from tests.port_contracts.vector_store import first_key as first_key
from tests.support.nearest import rows_of


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


class TestMilvusVectorStore(VectorStoreContract): ...


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
            await watched.search(
                own_collection, unit_rows(1, dim), 1
            )  # connects, and reads the version and the indexes
            before = proxy.sent_bytes
            found = await watched.search(own_collection, unit_rows(tokens, dim, seed=2), limit)
            sent_bytes = proxy.sent_bytes - before
    assert len(found.page_keys) == tokens * limit
    # A vector is 1,536 bytes. A key, a page key and a score take at most 24 of them, and a request has its own few.
    assert sent_bytes <= 24 * tokens * limit + 2_000


async def test_a_write_larger_than_one_request_is_whole(store: MilvusVectorStore, own_collection: str) -> None:
    dim = 4096
    await store.ensure(own_collection, dim)
    rows = unit_rows(600, dim)  # 9.8 MB, two requests
    await store.upsert(own_collection, [page_of(1, rows[:400]), page_of(2, rows[400:])])
    assert await store.count_rows(own_collection, 1, 2) == 600
    assert await found_pages(store, own_collection, rows[[0, 399, 400, 599]]) == [[1], [1], [2], [2]]


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


async def test_an_index_type_that_milvus_lite_lacks_is_refused(
    uri: str, milvus: MilvusSettings, own_collection: str
) -> None:
    async with MilvusVectorStore(
        milvus.model_copy(update={"index_type": "HNSW_SQ", "index_sq_type": "BF16"})
    ) as store:
        with pytest.raises(IndexUnsupported, match=r"PAGEMILL_INDEX_(SQ_)?TYPE="):
            await store.ensure(own_collection, DIM)


@pytest.mark.parametrize("asked", [{"index_type": "IVF_RABITQ"}, {"index_mmap": True}])
async def test_an_index_that_neither_server_makes_is_refused_and_another_can_be_made(
    milvus: MilvusSettings, own_collection: str, asked: dict[str, object]
) -> None:
    [(name, value)] = asked.items()
    async with MilvusVectorStore(milvus.model_copy(update=asked)) as store:
        with pytest.raises(IndexUnsupported, match=f"PAGEMILL_{name.upper()}={str(value).replace('True', 'true')}"):
            await store.ensure(own_collection, DIM)
    async with MilvusVectorStore(milvus) as store:
        await store.ensure(own_collection, DIM)
        await store.upsert(own_collection, [page_of(1, unit_rows(3))])
        assert await found_pages(store, own_collection, unit_rows(3)) == [[1]] * 3


async def test_a_collection_keeps_its_index_and_is_searched_with_the_parameters_of_it(
    milvus: MilvusSettings, own_collection: str, behind_its_back: MilvusClient
) -> None:
    """The wheel of Milvus 2.3.5 accepts DISKANN and does not build it, so rows are not flushed here."""
    dim = 384
    vectors = unit_rows(1200, dim, seed=9)
    async with MilvusVectorStore(milvus.model_copy(update={"index_type": "DISKANN"})) as store:
        try:
            await store.ensure(own_collection, dim)
        except IndexUnsupported as error:
            assert "PAGEMILL_INDEX_TYPE=DISKANN" in error.message
            assert "milvus_lite" in error.message, "a real server takes it"
            assert not behind_its_back.has_collection(index_name(own_collection))
            return
        await store.upsert(own_collection, twelve_pages(vectors))
        for limit in (1, 25, 1000):
            found = rows_of(await store.search(own_collection, vectors[::50], limit))
            assert [row[0][0] for row in found] == [n for n in range(12) for _ in range(2)]
            assert {len(row) for row in found} == {limit}
    async with MilvusVectorStore(milvus) as other:  # its settings name HNSW
        await other.ensure(own_collection, dim)
        assert await found_pages(other, own_collection, vectors[::50]) == [[n] for n in range(12) for _ in range(2)]
        assert behind_its_back.describe_index(index_name(own_collection), "vector")["index_type"] == "DISKANN"


async def test_an_index_of_another_type_that_an_operator_has_made_is_searched(
    milvus: MilvusSettings, store: MilvusVectorStore, own_collection: str, behind_its_back: MilvusClient
) -> None:
    vectors = unit_rows(1200, seed=9)
    await store.ensure(own_collection, DIM)
    await store.upsert(own_collection, twelve_pages(vectors))
    name = index_name(own_collection)
    behind_its_back.flush(name)
    behind_its_back.release_collection(name)
    behind_its_back.drop_index(name, "vector")
    index = behind_its_back.prepare_index_params()
    index.add_index("vector", index_type="IVF_FLAT", metric_type="IP", params={"nlist": 8, "params": {"nlist": 8}})
    behind_its_back.create_index(name, index)
    await asyncio.to_thread(until_indexed, behind_its_back, name, len(vectors))
    behind_its_back.load_collection(name)
    async with MilvusVectorStore(milvus) as api:
        assert await found_pages(api, own_collection, vectors[::50]) == [[n] for n in range(12) for _ in range(2)]
        await api.ensure(own_collection, DIM)
    assert behind_its_back.describe_index(name, "vector")["index_type"] == "IVF_FLAT"


def twelve_pages(vectors: Vectors) -> list[PageVectors]:
    return [page_of(n, vectors[100 * n : 100 * n + 100]) for n in range(12)]


def until_indexed(client: MilvusClient, name: str, rows: int) -> None:
    deadline = time.monotonic() + 60
    while int((state := client.describe_index(name, "vector"))["indexed_rows"]) < rows:
        assert time.monotonic() < deadline, state
        time.sleep(0.1)


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
    assert IndexNames().all("a_b") == ("pagemill_a_b", "colqwen_a_b")


async def test_a_prefix_keeps_two_installations_in_one_database_apart(
    milvus: MilvusSettings, collection: str, behind_its_back: MilvusClient
) -> None:
    one, two = (milvus.model_copy(update={"milvus_collection_prefix": prefix}) for prefix in ("team_one", "team_two"))
    async with MilvusVectorStore(one) as first, MilvusVectorStore(two) as second:
        await first.ensure(collection, DIM)
        await first.upsert(collection, [page_of(1, unit_rows(3))])
        assert await second.count(collection) == 0
        await second.ensure(collection, 2 * DIM)
        await first.point(collection, collection)
        await first.drop(collection)
        assert behind_its_back.has_collection(f"team_two_{collection}")
        assert not behind_its_back.has_collection(f"team_one_{collection}")
        await second.drop(collection)


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

    # Another process drops it. An index that is created after that has the new name.
    async with MilvusVectorStore(milvus) as remover:
        await remover.drop(own_collection)
    assert not any(behind_its_back.has_collection(name) for name in IndexNames().all(own_collection))
    assert await store.count(own_collection) == 0
    with pytest.raises(IngestError):
        await store.upsert(own_collection, [page_of(2, vectors[:1])])
    await store.ensure(own_collection, DIM)
    assert behind_its_back.has_collection(index_name(own_collection))
    assert not behind_its_back.has_collection(old_index_name(own_collection))
    await store.upsert(own_collection, [page_of(1, vectors)])
    assert await store.count(own_collection) == 20


async def test_a_server_that_is_not_there_is_unavailable(unused_tcp_port: int) -> None:
    settings = MilvusSettings(milvus_uri=f"http://127.0.0.1:{unused_tcp_port}")
    async with MilvusVectorStore(settings) as store:
        with pytest.raises(DependencyUnavailable) as caught:
            await store.ping()
    assert caught.value.dependency == "milvus"
    assert caught.value.__cause__ is not None
