"""Faults of Apache Kafka brokers and of their group: no acknowledged record is lost, no document loses an attempt."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

from ingestion.errors import IngestError
from tests.chaos.brokers import Cluster, own_cluster
from tests.chaos.documents import several
from tests.chaos.experiment import Experiment, experiment
from tests.chaos.proxy import Fault
from tests.chaos.rig import Rig
from tests.chaos.scenarios_outages import named_in_ready
from tests.chaos.scenarios_workers import keep_busy
from tests.chaos.waiting import until
from tests.support.broker_processes import Broker, add_logins
from tests.support.ports import free_port
from workers.janitor import janitor_of

_SETTLE_S: Final = 240.0
_PROGRESS_S: Final = 90.0
_JANITOR_EVERY_S: Final = 2.0
_PATIENT: Final = {"PAGEMILL_LEASE_S": "10"}
_ACL_COMMAND: Final = "org.apache.kafka.tools.AclCommand"


async def broker_kills(
    servers: Mapping[str, str], folder: Path, *, times: int, workers: int = 2, seed: int = 5
) -> Experiment:
    """kill -9 the only broker while documents flow, and start it again after some seconds."""
    pick = random.Random(seed)
    async with (
        own_cluster(servers, folder, 1) as cluster,
        experiment("broker killed", cluster.environment, folder, worker=_PATIENT) as run,
        _janitor(run.rig),
    ):
        await run.rig.fleet.start(workers)
        while run.runs < times:
            await keep_busy(run.rig)
            await asyncio.sleep(pick.uniform(0.0, 1.0))
            cluster.kill(*cluster.brokers)
            await asyncio.sleep(pick.uniform(0.0, 3.0))
            await cluster.restart(*cluster.brokers)
            run.runs += 1
        await _conclude(run)
    return run


async def one_of_three_killed(servers: Mapping[str, str], folder: Path, *, times: int, workers: int = 2) -> Experiment:
    """kill -9 one of three brokers after the other: leaders and the group's coordinator move, documents flow."""
    async with (
        own_cluster(servers, folder, 3) as cluster,
        experiment("1 of 3 brokers killed", cluster.environment, folder, worker=_PATIENT) as run,
        _janitor(run.rig),
    ):
        await run.rig.fleet.start(workers)
        await keep_busy(run.rig)
        while run.runs < times:
            victim = cluster.brokers[run.runs % len(cluster.brokers)]
            cluster.kill(victim)
            for _ in range(2):
                await keep_busy(run.rig)
            await cluster.restart(victim)
            run.runs += 1
        await _conclude(run)
    return run


async def all_brokers_down(
    servers: Mapping[str, str], folder: Path, *, down_s: float, documents: int, workers: int = 2
) -> Experiment:
    """kill -9 all three brokers, accept documents meanwhile, and start the brokers after `down_s`."""
    async with (
        own_cluster(servers, folder, 3) as cluster,
        experiment(f"3 brokers down for {down_s:g} s", cluster.environment, folder, worker=_PATIENT) as run,
        _janitor(run.rig),
    ):
        rig = run.rig
        await rig.fleet.start(workers)
        await keep_busy(rig)
        cluster.kill(*cluster.brokers)
        accepted = (rig.submit([source]) for source in several(documents, pages=2, prefix="meanwhile"))
        await asyncio.gather(asyncio.sleep(down_s), named_in_ready(rig, "kafka"), *accepted)
        await cluster.restart(*cluster.brokers)
        run.runs = 1
        await _conclude(run)
    return run


async def rebalances(servers: Mapping[str, str], folder: Path, *, rounds: int, workers: int = 3) -> Experiment:
    """Scale workers up and down in the middle of jobs that last for several rebalances: none begins twice."""
    async with experiment("rebalanced", servers, folder, embed_s=0.5) as run:
        fleet = run.rig.fleet
        await fleet.start(1)
        while run.runs < rounds:
            await keep_busy(run.rig)
            for number in range(2, workers + 1):
                fleet.keep(f"worker-{number}")
            joined = len(fleet.workers) + workers - 1
            await until(lambda count=joined: _joined(run) >= count, _PROGRESS_S, "the new workers have partitions")
            await keep_busy(run.rig)
            await asyncio.gather(*(fleet.dismiss(worker) for worker in fleet.running[1:]))
            run.runs += 1
        result = await run.conclude()
        run.expect(result.extra_starts == 0, f"{result.extra_starts} extra starts")
        run.expect(result.pages_again == 0, f"{result.pages_again} pages embedded again")
    return run


def _joined(run: Experiment) -> int:
    """The number of workers, ended ones included, that have had partitions."""
    joins = (worker.events("partitions assigned") for worker in run.rig.fleet.workers)
    return sum(any(line["partitions"] for line in lines) for lines in joins)


async def network_cuts(
    servers: Mapping[str, str], folder: Path, *, documents: int, mean_bytes: int, workers: int = 2
) -> Experiment:
    """Reset each connection to Kafka after a random number of bytes, in the middle of requests and answers."""
    async with experiment("kafka connections cut", servers, folder, worker=_PATIENT) as run:
        rig = run.rig
        await rig.fleet.start(workers)
        with rig.proxies["kafka"].broken(Fault(reset_after_bytes=mean_bytes)):
            await rig.submit(several(documents, pages=3))
            await rig.all_settled(_SETTLE_S)
            run.runs = rig.proxies["kafka"].broken_off
        run.expect(run.runs > 0, "no connection was cut")
        await _conclude(run)
    return run


async def rights_taken(servers: Mapping[str, str], folder: Path, *, documents: int, workers: int = 1) -> Experiment:
    """Take the workers' right to write to the topics of events and retries, and give it back."""
    port = free_port()
    login = {
        "PAGEMILL_KAFKA_BOOTSTRAP": f"127.0.0.1:{port}",
        "PAGEMILL_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "PAGEMILL_KAFKA_SASL_MECHANISM": "PLAIN",
        "PAGEMILL_KAFKA_SASL_USERNAME": "worker",
        "PAGEMILL_KAFKA_SASL_PASSWORD": "secret",
    }
    async with (
        own_cluster(servers, folder, 1, partial(_add_rights, login_port=port)) as cluster,
        experiment("rights taken", cluster.environment, folder, worker=_PATIENT | login) as run,
    ):
        rig = run.rig
        await rig.fleet.start(workers)
        await rig.submit(several(documents, pages=2))
        await rig.all_settled(_PROGRESS_S)
        kafka = rig.settings.kafka
        written = (kafka.kafka_events_topic, *kafka.retry_topics.values())
        topics = [option for topic in written for option in ("--topic", topic)]
        denied = ("--deny-principal", "User:worker", "--operation", "Write", *topics)
        await _acls(cluster, "--add", *denied)
        await rig.submit(several(documents, pages=2, prefix="late"))
        await named_in_ready(rig, "kafka")
        await _acls(cluster, "--remove", "--force", *denied)
        run.runs = 1
        await _conclude(run)
    return run


def _add_rights(broker: Broker, login_port: int) -> None:
    """Clients of the listener without logins, the rig among them, may do everything."""
    add_logins(broker, login_port, worker="secret")
    broker.properties |= {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "allow.everyone.if.no.acl.found": "true",
    }


async def _acls(cluster: Cluster, *arguments: str) -> None:
    await asyncio.to_thread(cluster.brokers[0].tool, _ACL_COMMAND, *arguments)


@asynccontextmanager
async def _janitor(rig: Rig) -> AsyncIterator[None]:
    """Run a janitor during the block: it publishes the jobs of documents that were accepted without a broker."""

    async def rounds() -> None:
        while True:
            with suppress(IngestError):
                await janitor_of(rig.services).round()
            await asyncio.sleep(_JANITOR_EVERY_S)

    task = asyncio.create_task(rounds())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _conclude(run: Experiment) -> None:
    result = await run.conclude(settle_s=_SETTLE_S)
    run.expect(result.attempts_burnt == 0, f"{result.attempts_burnt} attempts burnt")
