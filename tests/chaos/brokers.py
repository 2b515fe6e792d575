"""Brokers of one scenario's own, which it may kill: the other scenarios share the brokers of the servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from tests.chaos.waiting import until_async
from tests.support.broker_processes import Broker, three_brokers

_COMPLETE_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Cluster:
    """Apache Kafka brokers, and the settings of a process that uses them."""

    brokers: Sequence[Broker]
    environment: Mapping[str, str]

    @property
    def addresses(self) -> str:
        return ",".join(broker.address for broker in self.brokers)

    def kill(self, *victims: Broker) -> None:
        """kill -9."""
        for broker in victims:
            broker.kill()

    async def restart(self, *victims: Broker) -> None:
        """Start killed brokers and wait until each replica is in sync again."""
        for broker in victims:
            broker.start()
        await asyncio.gather(*(broker.ready() for broker in victims))
        await until_async(self._is_complete, _COMPLETE_S, "all brokers and replicas there")

    async def _is_complete(self) -> bool:
        """Whether all brokers have registered and each partition has all its replicas in sync."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.addresses, request_timeout_ms=5_000)
        try:
            await admin.start()
            cluster, topics = await admin.describe_cluster(), await admin.describe_topics()
        except (KafkaError, OSError):
            return False
        finally:
            await admin.close()
        partitions = [partition for topic in topics for partition in topic["partitions"]]
        is_in_sync = all(set(one["isr"]) == set(one["replicas"]) for one in partitions)
        return is_in_sync and len(cluster["brokers"]) == len(self.brokers)


@asynccontextmanager
async def own_cluster(
    servers: Mapping[str, str], folder: Path, count: int, prepare: Callable[[Broker], None] = lambda broker: None
) -> AsyncIterator[Cluster]:
    """One broker, or three with replication 3 and min.insync.replicas 2. `prepare` is called before a start."""
    home = folder / "brokers"
    brokers = [Broker(home)] if count == 1 else three_brokers(home)
    for broker in brokers:
        prepare(broker)
    own = {
        "PAGEMILL_KAFKA_BOOTSTRAP": ",".join(broker.address for broker in brokers),
        "PAGEMILL_KAFKA_REPLICATION": str(count),
        "PAGEMILL_KAFKA_STAND_IN": "false",
    }
    cluster = Cluster(brokers, {**servers, **own})
    try:
        await cluster.restart(*brokers)
        yield cluster
    finally:
        cluster.kill(*brokers)
