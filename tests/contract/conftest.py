"""Fixtures of the contract tests: prepared stores, a real Milvus server beside the stack's milvus-lite, and a model.

torch is imported inside fixtures: most tests do not need it.
"""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from motor.motor_asyncio import AsyncIOMotorClient

from ingestion.adapters.kafka.topics import ensure_topics
from ingestion.adapters.mongo.document_store import MongoDocumentStore
from ingestion.bootstrap import Services, open_services
from ingestion.prepare import prepare
from ingestion.settings import Settings
from tests.support.kafka_rights import named
from tests.support.mongo_listeners import listening
from tests.support.mongo_requests import RequestRecorder, unindexed
from tests.support.pipelines import COLLECTION
from tests.support.secured_kafka import TOPIC, SecuredKafka, kafka_home, running_secured_kafka
from workers.stack import milvus_server as milvus_wheel
from workers.stack.apache_kafka import find_java
from workers.stack.datadir import DataDir
from workers.stack.supervise import StackError, Supervised


@pytest.fixture(autouse=True)
def mongo_requests() -> Iterator[RequestRecorder]:
    """The requests of the product's clients of MongoDB. On a MongoDB each of them uses an index."""
    recorder = RequestRecorder()
    with listening(recorder):
        yield recorder
    assert unindexed(recorder.requests) == []


@pytest.fixture
async def document_store(settings: Settings) -> AsyncIterator[MongoDocumentStore]:
    """A prepared store on a database of its own."""
    async with MongoDocumentStore(settings.mongo) as store:
        await store.prepare()
        yield store
    client: AsyncIOMotorClient[dict[str, object]] = AsyncIOMotorClient(settings.mongo.mongo_uri)
    await client.drop_database(settings.mongo.mongo_database)
    client.close()


@pytest.fixture
async def services(settings: Settings) -> AsyncIterator[Services]:
    await prepare(settings)
    async with open_services(settings) as services:
        yield services
        await services.vectors.drop(COLLECTION)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def secured(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SecuredKafka]:
    """An Apache Kafka with logins, certificates and ACLs, and the topics of the prefix "login"."""
    home = kafka_home()
    if home is None or find_java() is None:
        missing = "logins to Kafka are not tested: no Apache Kafka with Java; set KAFKA_HOME"
        warnings.warn(missing, stacklevel=1)  # a skip alone is not shown
        pytest.skip(missing)
    async with running_secured_kafka(tmp_path_factory.mktemp("secured"), home) as kafka:
        settings = named(kafka.settings("CLEAR"), "login")
        await kafka.allow("pagemill", TOPIC, settings.kafka_jobs_topic, "Write")
        for topic in settings.topics:
            await kafka.allow("pagemill", TOPIC, topic, "Describe")
        await ensure_topics(settings)
        yield kafka


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def milvus_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The URI of a real Milvus server, started like `pagemill up --milvus server` does."""
    data_dir = DataDir(tmp_path_factory.mktemp("milvus"))
    data_dir.make(milvus_wheel.FOLDER)
    ports = data_dir.ports(("milvus", *milvus_wheel.PORTS))
    try:
        spec = milvus_wheel.spec(data_dir.root / milvus_wheel.FOLDER, ports)
    except StackError as missing:
        pytest.skip(f"no real Milvus server: {missing.message}")
    server = Supervised(spec, data_dir.log_path("milvus"))
    await server.start()
    try:
        await server.wait_ready()
        yield f"http://127.0.0.1:{ports['milvus']}"
    finally:
        await server.stop()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny ColQwen2 checkpoint. All tests of the session share it: copy it before a change."""
    from tests.support.tiny_checkpoints import make_checkpoint

    return make_checkpoint(tmp_path_factory.mktemp("colqwen"))


@pytest.fixture(scope="module")
def one_torch_thread() -> Iterator[None]:
    """Let torch use one thread: several threads wait for each other longer than a tiny model computes."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
