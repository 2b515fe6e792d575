"""The five servers that `pagemill up` starts, as far as Pagemill relies on them."""

from __future__ import annotations

import io
from pathlib import Path

import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from minio import Minio
from minio.error import S3Error
from motor.motor_asyncio import AsyncIOMotorClient
from pymilvus import DataType, MilvusClient
from redis.asyncio import Redis

from workers.stack.datadir import DataDir
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
    async with AIOKafkaProducer(bootstrap_servers=environment["PAGEMILL_KAFKA_BOOTSTRAP"]) as producer:
        await producer.send_and_wait(_TOPIC, _PAYLOAD)
    milvus = MilvusClient(environment["PAGEMILL_MILVUS_URI"])
    schema = milvus.create_schema()
    schema.add_field("pk", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
    index = milvus.prepare_index_params()
    index.add_index("vector", index_type="HNSW", metric_type="IP", params={"M": 8, "efConstruction": 32})
    milvus.create_collection("kept", schema=schema, index_params=index)
    milvus.insert("kept", [{"pk": 7, "vector": [0.6, 0.8]}])
    milvus.close()


async def _read_everywhere(environment: dict[str, str]) -> dict[str, object]:
    async with Redis.from_url(environment["PAGEMILL_REDIS_URL"]) as redis:
        in_redis = await redis.get("kept")
    mongo: AsyncIOMotorClient[dict[str, object]] = AsyncIOMotorClient(environment["PAGEMILL_MONGO_URI"])
    in_mongo = await mongo["test"]["kept"].find_one({"_id": 1})
    mongo.close()
    in_s3 = _s3(environment).get_object("pagemill", "kept").data
    consumer = AIOKafkaConsumer(bootstrap_servers=environment["PAGEMILL_KAFKA_BOOTSTRAP"])
    async with consumer:
        partitions = [TopicPartition(_TOPIC, number) for number in await _partitions(consumer)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        in_kafka = (await consumer.getone()).value
    milvus = MilvusClient(environment["PAGEMILL_MILVUS_URI"])
    milvus.load_collection("kept")
    hits = milvus.search("kept", [[0.6, 0.8]], limit=1)
    milvus.close()
    return {
        "redis": in_redis,
        "mongo": in_mongo and in_mongo["payload"],
        "s3": in_s3,
        "kafka": in_kafka,
        "milvus": hits[0][0]["pk"],
    }


async def _partitions(consumer: AIOKafkaConsumer) -> list[int]:
    await consumer.topics()
    return sorted(consumer.partitions_for_topic(_TOPIC) or ())


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


async def test_a_server_that_cannot_run_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    (tmp_path / "mongo").mkdir()
    (tmp_path / "mongo" / "db").write_text("a file where a folder must be")
    with pytest.raises(StackError, match="mongo exited with 1; the end of ") as caught:
        async with LocalServers(DataDir(tmp_path)):
            pytest.fail("the servers count as started")
    assert str(tmp_path / "mongo" / "db") in caught.value.message
    assert not DataDir(tmp_path).is_in_use(), "a server of the failed start is still running"
