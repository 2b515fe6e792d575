"""The vector store under the name of a collection whose index has been replaced, on both Milvus servers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import closing

import pytest
from pymilvus import MilvusClient

from ingestion.adapters.milvus.names import index_name, old_index_name
from ingestion.adapters.milvus.store import MilvusVectorStore
from ingestion.catalogue.generations import index_of
from ingestion.settings import MilvusSettings, Settings

_DIMS = {1: 8, 2: 16, 3: 24}


@pytest.fixture(params=["milvus-lite", "milvus"])
def milvus(request: pytest.FixtureRequest, settings: Settings) -> MilvusSettings:
    if request.param == "milvus-lite":
        return settings.milvus
    return settings.milvus.model_copy(update={"milvus_uri": str(request.getfixturevalue("milvus_server"))})


@pytest.fixture
async def store(milvus: MilvusSettings, collection: str) -> AsyncIterator[MilvusVectorStore]:
    async with MilvusVectorStore(milvus) as store:
        yield store
        for generation in _DIMS:
            await store.drop(index_of(collection, generation))


async def test_a_name_leads_to_one_index_after_another(store: MilvusVectorStore, collection: str) -> None:
    for generation, dim in _DIMS.items():
        await store.ensure(index_of(collection, generation), dim)
    await store.drop(collection)
    for generation in (2, 3):
        for _ in range(2):
            await store.point(collection, index_of(collection, generation))
        await store.ensure(collection, _DIMS[generation])  # raises where the dimension is another
    await store.drop(index_of(collection, 2))
    await store.ensure(collection, _DIMS[3])


async def test_the_names_of_an_old_release_give_way_to_new_ones(
    store: MilvusVectorStore, milvus: MilvusSettings, collection: str
) -> None:
    old_release = milvus.model_copy(update={"milvus_collection_prefix": "colqwen"})
    async with MilvusVectorStore(old_release) as old:
        await old.ensure(index_of(collection, 2), _DIMS[2])
        await old.point(collection, index_of(collection, 2))
    await store.ensure(
        index_of(collection, 2), _DIMS[2]
    )  # raises where it would create the index again with another dimension
    with closing(MilvusClient(uri=milvus.milvus_uri, timeout=30)) as client:
        assert not client.has_collection(index_name(index_of(collection, 2)))
        await store.ensure(index_of(collection, 3), _DIMS[3])
        await store.point(collection, index_of(collection, 3))
        await store.drop(index_of(collection, 2))
        assert client.describe_collection(index_name(collection))["collection_name"] == index_name(
            index_of(collection, 3)
        )
        old_names = [old_index_name(collection), old_index_name(index_of(collection, 2))]
        assert not any(client.has_collection(name) for name in old_names)


async def test_an_index_goes_with_its_name_and_a_name_without_its_index(
    store: MilvusVectorStore, collection: str
) -> None:
    await store.ensure(index_of(collection, 2), 16)
    await store.point(collection, index_of(collection, 2))
    await store.drop(collection)
    await store.ensure(index_of(collection, 2), 16)
    await store.ensure(collection, 8)  # a new index of its own
    await store.drop(collection)
    await store.point(collection, index_of(collection, 2))
    await store.drop(index_of(collection, 2))
    assert await store.count(collection) == 0
    await store.ensure(collection, 8)
