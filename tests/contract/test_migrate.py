"""`pagemill migrate` on real servers: what it creates, what it does not change, and two processes of it at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from motor.motor_asyncio import AsyncIOMotorClient
from pymilvus import MilvusClient
from typer.testing import CliRunner

from ingestion.adapters.milvus.names import index_name
from ingestion.adapters.milvus.store import MilvusVectorStore
from ingestion.adapters.mongo.document_store import MongoDocumentStore
from ingestion.adapters.mongo.indexes import INDEXES
from ingestion.bootstrap import Services, open_services
from ingestion.catalogue.generations import index_of
from ingestion.model import document_prefix
from ingestion.settings import Settings
from tests.contract.test_old_names import old_release
from tests.support.archives import search
from tests.support.brokers import main_broker
from tests.support.shelf import Shelf, open_shelf
from workers.cli import app
from workers.migrations.migrator import Migrator
from workers.migrations.step import Task
from workers.stack.kafka_kinds import KafkaKind

MADE_INDEXES = sum(map(len, INDEXES.values()))
"""The counter of page keys is made beside them."""


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No stack runs in the folder: the settings are used."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
async def services_without_migration(settings: Settings) -> AsyncIterator[Services]:
    async with open_services(settings) as opened:
        yield opened
    client: AsyncIOMotorClient[Any] = AsyncIOMotorClient(settings.mongo.mongo_uri)
    await client.drop_database(settings.mongo.mongo_database)
    client.close()


async def migrate(*options: str) -> tuple[int, list[dict[str, Any]]]:
    """The exit status and the tasks."""
    result = await asyncio.to_thread(CliRunner().invoke, app, ["migrate", "--json", *options])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, [json.loads(line) for line in result.stdout.splitlines()]


async def migrations(settings: Settings) -> dict[str, Any]:
    async with database_of(settings) as database:
        found = await database["migrations"].find({}).to_list(None)
    return {record["_id"]: record for record in found}


def kinds(tasks: list[dict[str, Any]]) -> dict[str, int]:
    steps = [task["step"] for task in tasks]
    return {step: steps.count(step) for step in steps}


async def test_fresh_servers_get_everything_once(settings: Settings, services_without_migration: Services) -> None:
    status, wanted = await migrate("--check")
    assert status == 1
    assert {task["outcome"] for task in wanted} == {"to_do"}
    assert kinds(wanted) == {"bucket": 1, "indexes": MADE_INDEXES + 1, "topics": len(settings.kafka.topics)}
    assert await migrations(settings) == {}, "a check changes nothing"

    status, done = await migrate()
    assert status == 0
    assert [task["task"] for task in done] == [task["task"] for task in wanted]
    first = await migrations(settings)
    assert {name: record.get("version") for name, record in first.items()} == {
        "bucket": 1, "indexes": 1, "topics": 1, "index aliases": 1, "lock": None,
    }  # fmt: skip

    assert await migrate() == (0, [])
    assert await migrate("--check") == (0, [])
    again = await migrations(settings)
    assert again["topics"]["applied_at"] == first["topics"]["applied_at"]
    for ping in (services_without_migration.blobs.ping, services_without_migration.queue.ping):
        await ping()


async def test_two_at_once_both_succeed(settings: Settings, services_without_migration: Services) -> None:
    async def run() -> list[Task]:
        async with MongoDocumentStore(settings.mongo) as records:
            waited: list[bool] = []
            migrator = Migrator(records, [SlowStep(steps)], on_wait=lambda: waited.append(True))
            reports = await migrator.migrate()
            return reports[0].done

    steps: list[str] = []
    done = await asyncio.gather(run(), run(), run())
    assert sorted(map(len, done)) == [0, 0, 1]
    assert steps == ["begin", "end"] * 3, "they ran one after another"


class SlowStep:
    name = "slow"
    version = 3

    def __init__(self, steps: list[str]) -> None:
        self._steps = steps

    async def tasks(self) -> list[Task]:
        return [] if self._steps else [Task("something")]

    async def apply(self) -> None:
        self._steps.append("begin")
        await asyncio.sleep(0.05)
        self._steps.append("end")


async def test_the_lock_of_a_killed_process_expires(settings: Settings, services_without_migration: Services) -> None:
    async with MongoDocumentStore(settings.mongo) as records:
        assert await records.lock("killed", 1)
        await asyncio.sleep(0.05)
        assert await records.lock("next", 60_000)
        assert not await records.lock("killed", 60_000)
        await records.unlock("killed")
        assert not await records.lock("third", 60_000)


async def test_what_a_newer_release_migrated_is_left_alone(
    settings: Settings, services_without_migration: Services
) -> None:
    async with MongoDocumentStore(settings.mongo) as records:
        await records.record_step("topics", 99)
    for options in ((), ("--check",)):
        result = await asyncio.to_thread(CliRunner().invoke, app, ["migrate", *options])
        assert result.exit_code == 1
        assert "step 'topics' was applied in version 99, and this release knows 1" in result.output
    assert not await services_without_migration.blobs.has_bucket()  # type: ignore[attr-defined]


@pytest.mark.skipif(main_broker() is not KafkaKind.APACHE, reason="noida-db adds no partitions")
async def test_topics_of_other_settings_get_partitions_and_a_command_for_the_rest(
    settings: Settings, services_without_migration: Services
) -> None:
    kafka = settings.kafka
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.kafka_bootstrap)
    await admin.start()
    short_lived = {"retention.ms": "1000"}
    await admin.create_topics([
        NewTopic(kafka.kafka_jobs_topic, num_partitions=2, replication_factor=1),
        NewTopic(kafka.dead_letter_topic, num_partitions=1, replication_factor=1, topic_configs=short_lived),
    ])  # fmt: skip
    status, done = await migrate()
    assert status == 1, "dead letters are lost until the operator runs the command"
    [left] = [task for task in done if task["outcome"] == "by_hand"]
    assert left["command"].endswith(f"--entity-name {kafka.dead_letter_topic} --add-config retention.ms=-1")
    assert f"add partitions to the topic {kafka.kafka_jobs_topic}: 2 partitions, not {kafka.kafka_partitions}" in {
        task["task"] for task in done
    }
    await admin.close()
    assert await migrate("--check") == (1, [left])


@pytest.fixture
async def old_shelf(services_without_migration: Services, collection: str) -> AsyncIterator[Shelf]:
    """Documents of an old release: its names, no sign codes, records without later fields, and no indexes."""
    services = services_without_migration
    await services.blobs.prepare()  # type: ignore[attr-defined]
    async with (
        database_of(services.settings) as database,
        MilvusVectorStore(services.settings.milvus) as fresh,
        AsyncExitStack() as stack,
    ):
        await database["counters"].insert_one({"_id": "page_keys", "next": 1})
        with old_release():
            filled = await stack.enter_async_context(open_shelf(services, collection))
        later = (
            "codes_format",
            "terms_format",
            "generation",
            "next_generation",
            "outages",
            "request_id",
            "traceparent",
        )
        await database["documents"].update_many({}, {"$unset": dict.fromkeys(later, "")})
        yield replace(filled, services=replace(services, vectors=fresh))


@asynccontextmanager
async def database_of(settings: Settings) -> AsyncIterator[Any]:
    client: AsyncIOMotorClient[Any] = AsyncIOMotorClient(settings.mongo.mongo_uri)
    yield client[settings.mongo.mongo_database]
    client.close()


async def test_the_documents_of_an_old_release_stay_as_they_are_and_are_found(old_shelf: Shelf) -> None:
    services = old_shelf.services

    async def held() -> tuple[Any, ...]:
        records = await old_shelf.records["documents"].find({}).sort("_id", 1).to_list(None)
        pages = await old_shelf.records["pages"].find({}).sort("_id", 1).to_list(None)
        return records, pages, await services.blobs.list_keys(document_prefix("d1"))

    before = await held()
    status, wanted = await migrate("--check")
    assert (status, kinds(wanted)) == (1, {"indexes": MADE_INDEXES, "topics": len(services.settings.kafka.topics)})
    assert (await migrate())[0] == 0
    assert await migrate() == (0, [])
    assert await held() == before
    assert {id_ for id_, _, _ in await search(old_shelf)} == {"d1", "d2"}
    assert await old_shelf.mismatches() == []


async def test_a_name_that_stands_for_an_earlier_generation_is_moved(services: Services, collection: str) -> None:
    """The end of a re-embedding that was killed between its two last steps."""
    vectors, records = services.vectors, services.documents
    await records.bind_collection(collection, "model-1", 8)
    async with database_of(services.settings) as database:
        record = await database["collections"].find_one({"_id": collection})
        await database["collections"].update_one(
            {"_id": collection}, {"$set": {"generation": 2, "embedder": "model-2", "dim": 16}}
        )
        assert record is not None
    await vectors.ensure(index_of(collection, 2), 16)
    try:
        status, wanted = await migrate("--check")
        assert (status, [task["task"] for task in wanted]) == (
            1,
            [f"point the name of collection {collection} to generation 2 in Milvus"],
        )
        assert (await migrate())[0] == 0
        with closing(MilvusClient(uri=services.settings.milvus.milvus_uri, timeout=30)) as client:
            described = client.describe_collection(index_name(collection))
            assert described["collection_name"] == index_name(index_of(collection, 2))
        assert await migrate("--check") == (0, [])
    finally:
        await vectors.drop(collection)
        await vectors.drop(index_of(collection, 2))
