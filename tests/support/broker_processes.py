"""Apache Kafka brokers of one test, which it may kill, freeze and start again."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
from aiokafka import AIOKafkaClient
from aiokafka.errors import KafkaError

from tests.support.ports import free_port

_START_S: Final = 120.0
_STOP_S: Final = 30.0
_QUICK_DEATH: Final = {"broker.session.timeout.ms": "3000", "broker.heartbeat.interval.ms": "500"}
"""By default a cluster notices the end of a broker after 9 s, and refuses its restart until then."""


def kafka_home() -> Path:
    """The Apache Kafka with a `bin/broker`. Skips the test where there is none, or no Java."""
    shared = Path(__file__).parents[2] / "shared/apache-kafka"
    candidates = [Path(home) for name in ("KAFKA_HOME", "PAGEMILL_TEST_KAFKA") if (home := os.environ.get(name))]
    candidates += [shared, shared.parents[2] / "shared/apache-kafka", shared.parents[3] / "shared/apache-kafka"]
    home = next((path for path in candidates if (path / "bin/broker").exists()), None)
    if home is None:
        pytest.skip("no Apache Kafka: set KAFKA_HOME")
    if shutil.which("java") is None:
        pytest.skip("no Java")
    return home


class Broker:
    """One broker. Killed and started again it has lost nothing."""

    def __init__(self, folder: Path, number: int = 1, **properties: str) -> None:
        self.number = number
        self.port, self.controller_port = free_port(), free_port()
        self.properties = {"node.id": str(number), **_QUICK_DEATH, **properties}
        self._home, self._folder = kafka_home(), folder
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        extra = self._folder / "extra.properties"
        extra.write_text("".join(f"{name}={value}\n" for name, value in self.properties.items()))
        arguments = [str(self._home / "bin/broker"), str(self._folder / "data"), str(self.port)]
        with (self._folder / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*arguments, str(self.controller_port), str(extra)], stdout=log, stderr=log, env=self._environment()
            )

    def _environment(self) -> dict[str, str]:
        heap = "-Xms64m -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto"
        return {"KAFKA_LOG_LEVEL": "WARN", "KAFKA_JAVA_OPTS": heap, **os.environ}

    async def ready(self) -> None:
        """Wait until the broker answers."""
        deadline_s = time.monotonic() + _START_S
        while True:
            client = AIOKafkaClient(bootstrap_servers=self.address, request_timeout_ms=5_000)
            try:
                await client.bootstrap()
                return
            except KafkaError:
                assert time.monotonic() < deadline_s, (self._folder / "broker.log").read_text()[-3_000:]
                await asyncio.sleep(0.3)
            finally:
                await client.close()

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(_STOP_S)
            self._process = None

    def tool(self, name: str, *arguments: str) -> str:
        """Run one of Kafka's programs against this broker, and return what it writes."""
        done = subprocess.run(
            [str(self._home / "bin/kafka-class"), name, "--bootstrap-server", self.address, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            env=self._environment(),
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def add_logins(broker: Broker, port: int, **passwords: str) -> None:
    """Give the broker a second listener, with these users' logins. Call it before the start."""
    plain = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    users = " ".join(f'user_{name}="{password}"' for name, password in passwords.items())
    advertised = f"PLAINTEXT://{broker.address},SASL_PLAINTEXT://127.0.0.1:{port}"
    broker.properties |= {
        "listeners": f"{advertised},CONTROLLER://127.0.0.1:{broker.controller_port}",
        "advertised.listeners": advertised,
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.sasl_plaintext.plain.sasl.jaas.config": f"{plain} {users};",
    }


@asynccontextmanager
async def running_broker(folder: Path, **properties: str) -> AsyncIterator[Broker]:
    """A broker that answers, until the end of the block."""
    broker = Broker(folder, **properties)
    broker.start()
    try:
        await broker.ready()
        yield broker
    finally:
        broker.kill()


def three_brokers(folder: Path, **properties: str) -> list[Broker]:
    """Three brokers of one cluster, with replication 3 and two replicas that must have a message."""
    brokers = [Broker(folder / str(number), number, **properties) for number in (1, 2, 3)]
    voters = ",".join(f"{one.number}@127.0.0.1:{one.controller_port}" for one in brokers)
    for one in brokers:
        one.properties |= {
            "controller.quorum.voters": voters,
            "default.replication.factor": "3",
            "min.insync.replicas": "2",
            "offsets.topic.replication.factor": "3",
            **properties,
        }
    return brokers
