"""The Kafka of the tests: Apache Kafka where it is, else noida-db; tests of the broker itself run on both.

Apache Kafka is there where Java is installed and either KAFKA_HOME is set or `../shared/apache-kafka` lies beside the
checkout.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from workers.stack import apache_kafka, kafka_kinds, server_specs
from workers.stack.datadir import DataDir
from workers.stack.kafka_kinds import KafkaKind
from workers.stack.supervise import Supervised

_BESIDE_THE_CHECKOUT: Final = Path(__file__).parents[3] / "shared" / "apache-kafka"


def set_kafka_home() -> None:
    """Let the servers that tests start find the Apache Kafka beside the checkout."""
    if _BESIDE_THE_CHECKOUT.is_dir():
        os.environ.setdefault(apache_kafka.HOME_VARIABLE, str(_BESIDE_THE_CHECKOUT))


def main_broker() -> KafkaKind:
    """The broker of the session's servers."""
    if given := os.environ.get("PAGEMILL_TEST_STACK"):
        return KafkaKind(json.loads(Path(given).read_text())["kafka_server"])
    return kafka_kinds.default()


def other_broker() -> KafkaKind | None:
    """The broker that tests of brokers run on as well; None where there is no other."""
    others = {KafkaKind.NOIDA, kafka_kinds.default()} - {main_broker()}
    return min(others, default=None)


@asynccontextmanager
async def running_broker(kind: KafkaKind, folder: Path) -> AsyncIterator[dict[str, str]]:
    """A broker alone, with its data below `folder`. Yields the settings of a process that uses it."""
    data_dir = DataDir(folder)
    data_dir.make(kafka_kinds.FOLDERS[kind])
    ports = data_dir.ports(("kafka", *apache_kafka.PORTS))
    process = Supervised(server_specs.kafka_server(data_dir.root, ports, kind), data_dir.log_path("kafka"))
    await process.start()
    try:
        await process.wait_ready()
        yield server_specs.kafka_environment(ports, kind)
    finally:
        await process.stop()
