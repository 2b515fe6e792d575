"""The five servers that `pagemill up` starts, as far as Pagemill relies on them."""

from __future__ import annotations

import io
from pathlib import Path

import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from minio import Minio
from minio.error import S3Error
from motor.motor_asyncio import AsyncIOMotorClient
from pymilvus import DataType, MilvusClient
from redis.asyncio import Redis

from tests.support.brokers import other_broker, running_broker
from workers.stack.datadir import DataDir
from workers.stack.kafka_kinds import KafkaKind
from workers.stack.servers import LocalServers
from workers.stack.supervise import StackError

_TOPIC = "kept"
_PAYLOAD = b"written before the restart"


def _s3(environment: dict[str, str], secret_key: str | None = None) -> Minio:
    return Minio(
        environment["PAGEMILL_S3_ENDPOINT"],
        environment["PAGEMILL_S3_ACCESS_KEY"],
        secret_key or environment["PAGEMILL_S3_SECRET_KEY"],
        secure=False,
        region="us-east-1",
    )


async def _write_everywhere(environment: dict[str, str]) -> None:
    async with Redis.from_url(environment["PAGEMILL_REDIS_URL"]) as redis:
        await redis.set("kept", _PAYLOAD)
    mongo: AsyncIOMotorClient[dict[str, object]] = AsyncIOMotorClient(environment["PAGEMILL_MONGO_URI"])
    await mongo["test"]["kept"].insert_one({"_id": 1, "payload": _PAYLOAD})
    mongo.close()
    _s3(environment).put_object("pagemill", "kept", io.BytesIO(_PAYLOAD), len(_PAYLOAD))
    await _write_to_kafka(environment)
    milvus = MilvusClient(environment["PAGEMILL_MILVUS_URI"])
    schema = milvus.create_schema()
    schema.add_field("pk", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
    index = milvus.prepare_index_params()
    index.add_index("vector", index_type="HNSW", metric_type="IP", params={"M": 8, "efConstruction": 32})
    milvus.create_collection("kept", schema=schema, index_params=index)
    milvus.insert("kept", [{"pk": 7, "vector": [0.6, 0.8]}])
    milvus.close()


async def _write_to_kafka(environment: dict[str, str]) -> None:
    bootstrap = environment["PAGEMILL_KAFKA_BOOTSTRAP"]
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(_TOPIC, num_partitions=1, replication_factor=1)])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        await producer.send_and_wait(_TOPIC, _PAYLOAD)


async def _read_from_kafka(environment: dict[str, str]) -> object:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=environment["PAGEMILL_KAFKA_BOOTSTRAP"], auto_offset_reset="earliest"
    )
    async with consumer:
        consumer.assign([TopicPartition(_TOPIC, 0)])
        return (await consumer.getone()).value


async def _read_everywhere(environment: dict[str, str]) -> dict[str, object]:
    async with Redis.from_url(environment["PAGEMILL_REDIS_URL"]) as redis:
        in_redis = await redis.get("kept")
    mongo: AsyncIOMotorClient[dict[str, object]] = AsyncIOMotorClient(environment["PAGEMILL_MONGO_URI"])
    in_mongo = await mongo["test"]["kept"].find_one({"_id": 1})
    mongo.close()
    in_s3 = _s3(environment).get_object("pagemill", "kept").data
    milvus = MilvusClient(environment["PAGEMILL_MILVUS_URI"])
    milvus.load_collection("kept")
    hits = milvus.search("kept", [[0.6, 0.8]], limit=1)
    milvus.close()
    return {
        "redis": in_redis,
        "mongo": in_mongo and in_mongo["payload"],
        "s3": in_s3,
        "kafka": await _read_from_kafka(environment),
        "milvus": hits[0][0]["pk"],
    }


async def test_restarted_servers_find_their_data_on_the_same_ports_and_on_others(tmp_path: Path) -> None:
    everywhere = dict.fromkeys(("redis", "mongo", "s3", "kafka"), _PAYLOAD) | {"milvus": 7}
    async with LocalServers(DataDir(tmp_path)) as first:
        await _write_everywhere(first.environment)
        pids = [process.pid for process in first.processes]
    assert not [pid for pid in pids if psutil.pid_exists(pid)]

    async with LocalServers(DataDir(tmp_path)) as second:
        assert second.environment == first.environment
        assert await _read_everywhere(second.environment) == everywhere
    (tmp_path / "ports.json").unlink()

    async with LocalServers(DataDir(tmp_path)) as third:
        assert third.environment["PAGEMILL_S3_ENDPOINT"] != first.environment["PAGEMILL_S3_ENDPOINT"]
        assert await _read_everywhere(third.environment) == everywhere


async def test_the_other_broker_finds_its_records_after_a_restart(tmp_path: Path) -> None:
    if (kind := other_broker()) is None:
        pytest.skip("no Apache Kafka: set KAFKA_HOME")
    async with running_broker(kind, tmp_path) as first:
        await _write_to_kafka(first)
    (tmp_path / "ports.json").unlink()
    async with running_broker(kind, tmp_path) as second:
        assert second != first
        assert await _read_from_kafka(second) == _PAYLOAD


async def test_s3_refuses_other_credentials(server_env: dict[str, str]) -> None:
    stranger = _s3(server_env, secret_key="guessed")
    with pytest.raises(S3Error):
        stranger.put_object("pagemill", "intruder", io.BytesIO(b"x"), 1)
    with pytest.raises(S3Error):
        list(stranger.list_objects("pagemill"))


async def test_two_sets_of_servers_run_side_by_side(server_env: dict[str, str], tmp_path: Path) -> None:
    async with LocalServers(DataDir(tmp_path)) as servers:
        addresses = [name for name in server_env if name.endswith(("_BOOTSTRAP", "_URI", "_URL", "_ENDPOINT"))]
        assert len(addresses) >= 5
        for name in {*addresses} & servers.environment.keys():
            assert servers.environment[name] != server_env[name]


async def test_a_given_kafka_is_used_and_not_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGEMILL_KAFKA_BOOTSTRAP", "broker.example:9093")
    servers = LocalServers(DataDir(tmp_path), kafka=KafkaKind.GIVEN)
    await servers.reserve()
    try:
        assert [process.spec.name for process in servers.processes] == ["mongo", "redis", "s3", "milvus"]
        kafka = {name: value for name, value in servers.environment.items() if "KAFKA" in name}
        assert kafka == {"PAGEMILL_KAFKA_BOOTSTRAP": "broker.example:9093"}
    finally:
        await servers.stop()


async def test_a_server_that_cannot_run_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    (tmp_path / "mongo").mkdir()
    (tmp_path / "mongo" / "db").write_text("a file where a folder must be")
    with pytest.raises(StackError, match="mongo exited with 1; the end of ") as caught:
        async with LocalServers(DataDir(tmp_path)):
            pytest.fail("the servers count as started")
    assert str(tmp_path / "mongo" / "db") in caught.value.message
    assert not DataDir(tmp_path).is_in_use(), "a server of the failed start is still running"
