"""What a broker costs: latencies, rebalances, redelivery, and jobs a second. Prints tables in Markdown.

    python -m tests.benchmarks.broker [--part latency] [--part throughput] [--partitions N]... [--jobs N]

`latency` compares Apache Kafka with noida-db; `throughput` runs on Apache Kafka alone. Members of the group are
processes that claim documents in MongoDB and do nothing else. KAFKA_HOME must be set. Nothing else should run.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

from ingestion.adapters.kafka.producer import KafkaJobQueue
from ingestion.adapters.kafka.topics import ensure_topics
from ingestion.adapters.mongo.document_store import MongoDocumentStore
from ingestion.model import IngestJob
from tests.benchmarks.broker_member import HELD, HOLDS, NO_CLAIM
from tests.chaos.rig import settings_of
from tests.chaos.waiting import until
from tests.support.brokers import running_broker
from tests.support.documents import document
from workers.stack.datadir import DataDir
from workers.stack.kafka_kinds import KafkaKind
from workers.stack.servers import LocalServers

_DEADLINE_S: Final = 90.0
_EVERY_S: Final = 0.05
_LATENCY_JOBS: Final = 100
_HELD_JOBS: Final = 20
_SESSION_S: Final = 10
_NEVER_EXPIRES_S: Final = 20.0
"""Longer than the session timeout. noida-db has not expired a dead member by then."""
_TOGETHER: Final = 64

Row = tuple[str, str]


class Member:
    """A process of `tests.benchmarks.broker_member`."""

    def __init__(self, number: int, environment: Mapping[str, str], folder: Path, *options: str) -> None:
        self._output = folder / f"{secrets.token_hex(4)}.jsonl"
        self._environment = {**environment, "PAGEMILL_WORKER_ID": f"member-{number}", "PYTHONPATH": str(Path.cwd())}
        self.process = self._started(*options)

    def _started(self, *options: str) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-P", "-m", "tests.benchmarks.broker_member", *options]
        with self._output.open("ab") as output:
            return subprocess.Popen(argv, stdout=output, env=self._environment)

    def restart(self, *options: str) -> None:
        self.process = self._started(*options)

    def events(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self._output.read_bytes().splitlines() if line.endswith(b"}")]
        return [line for line in lines if line["event"] == event]

    @property
    def partitions(self) -> int:
        """The number that it has."""
        return self.events("assigned")[-1]["partitions"] if self.events("assigned") else 0

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


class Group:
    """A consumer group on topics of its own, with its members and its jobs."""

    def __init__(self, servers: Mapping[str, str], folder: Path, partitions: int) -> None:
        name = f"bench-{secrets.token_hex(4)}"
        is_stand_in = servers.get("PAGEMILL_KAFKA_STAND_IN", "false")
        own = {
            "PAGEMILL_MONGO_DATABASE": name.replace("-", "_"),
            "PAGEMILL_KAFKA_JOBS_TOPIC": f"{name}.jobs",
            "PAGEMILL_KAFKA_EVENTS_TOPIC": f"{name}.events",
            "PAGEMILL_KAFKA_GROUP": name,
            "PAGEMILL_KAFKA_PARTITIONS": str(partitions),
            "PAGEMILL_KAFKA_STATIC_MEMBERSHIP": is_stand_in,
            "PAGEMILL_KAFKA_SESSION_TIMEOUT_MS": str(_SESSION_S * 1000),
            "PAGEMILL_RETRY_DELAYS_S": "10",
        }
        self.environment = {**os.environ, **servers, **own}
        self.settings = settings_of({**servers, **own})
        self.members: list[Member] = []
        self.all_partitions = 2 * partitions  # jobs and one topic of retries
        self.published_s: dict[str, float] = {}
        self._folder = folder
        self._numbers = itertools.count()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Group]:
        await ensure_topics(self.settings.kafka)
        try:
            async with MongoDocumentStore(self.settings.mongo) as store, KafkaJobQueue(self.settings.kafka) as queue:
                self._store, self._queue = store, queue
                await store.prepare()
                yield self
        finally:
            for member in self.members:
                member.end()

    async def join(self, count: int = 1, *options: str) -> None:
        """Start members, and wait until all of them share the partitions."""
        first = len(self.members)
        self.members += [Member(first + number, self.environment, self._folder, *options) for number in range(count)]
        await until(lambda: self.shared_by(self.members), _DEADLINE_S, f"{len(self.members)} members share")

    def shared_by(self, members: Sequence[Member]) -> bool:
        held = [member.partitions for member in members]
        return all(held) and sum(held) == self.all_partitions

    async def accept(self, count: int, prefix: str = "d") -> list[IngestJob]:
        """Documents in MongoDB whose jobs are to be published."""
        ids = [f"{prefix}{next(self._numbers)}" for _ in range(count)]
        for start in range(0, count, _TOGETHER):
            await asyncio.gather(*(self._store.insert(document(id_)) for id_ in ids[start : start + _TOGETHER]))
        return [IngestJob(id_, "c", "a.pdf", pages=1) for id_ in ids]

    async def publish(self, job: IngestJob) -> None:
        self.published_s[job.document_id] = time.time()
        await self._queue.publish(job)

    def times_s(self, event: str) -> dict[str, float]:
        return {line["id"]: line["at_s"] for member in self.members for line in member.events(event)}


async def latencies(servers: Mapping[str, str], folder: Path) -> list[Row]:
    async with Group(servers, folder, 10).open() as group:
        await group.join()
        for job in await group.accept(_LATENCY_JOBS):
            await group.publish(job)
            await asyncio.sleep(_EVERY_S)
        await until(lambda: len(group.times_s("claimed")) == _LATENCY_JOBS, _DEADLINE_S, "all claimed")
        waited_s = [at - group.published_s[id_] for id_, at in group.times_s("claimed").items()]
        commits_s = [line["took_s"] for line in group.members[0].events("committed")]
        rows = [("publish to claim", _quantiles(waited_s)), ("commit", _quantiles(commits_s))]
        rows += await _scaled(group)
        rows.append(("a member is killed with -9, to the redelivery of its jobs", await _killed(group)))
    return rows


async def _scaled(group: Group) -> list[Row]:
    """A second member joins, and leaves at SIGTERM, while jobs are published."""
    stream = asyncio.create_task(_stream(group))
    began_s = time.time()
    await group.join()
    second = group.members[1]
    joined_s = max(member.events("assigned")[-1]["at_s"] for member in group.members)
    rows = [
        ("a second member joins, to partitions for both", f"{joined_s - second.events('joining')[0]['at_s']:.2f} s")
    ]
    rows.append(("longest time without a claim meanwhile", f"{_longest_gap_s(group, began_s):.2f} s"))
    asked_s = time.time()
    second.process.send_signal(signal.SIGTERM)
    await until(lambda: group.shared_by(group.members[:1]), _DEADLINE_S, "the first member has all partitions")
    left_s = group.members[0].events("assigned")[-1]["at_s"]
    rows.append(("a member stops, to partitions for the other", f"{left_s - asked_s:.2f} s"))
    stream.cancel()
    with suppress(asyncio.CancelledError):
        await stream
    second.process.wait()
    return rows


async def _stream(group: Group) -> None:
    while True:
        for job in await group.accept(1):
            await group.publish(job)
        await asyncio.sleep(_EVERY_S)


async def _killed(group: Group) -> str:
    first, second = group.members
    second.restart(HOLDS)
    await until(lambda: group.shared_by(group.members), _DEADLINE_S, "both share")
    for job in await group.accept(_HELD_JOBS, HELD):
        await group.publish(job)
    await until(lambda: _held(second), _DEADLINE_S, "the second member has received jobs")
    await asyncio.sleep(1.0)
    its_jobs, killed_s = _held(second), time.time()
    second.end()
    try:
        await until(lambda: its_jobs <= _held(first), _NEVER_EXPIRES_S, "its jobs are redelivered")
    except AssertionError:
        began_s = time.time()
        second.restart()
        await until(
            lambda: len(second.events("received")) >= 2 * len(its_jobs), _DEADLINE_S, "its jobs are redelivered"
        )
        return f"not within {_NEVER_EXPIRES_S:.0f} s; {time.time() - began_s:.1f} s after its restart"
    return f"{time.time() - killed_s:.1f} s"


def _held(member: Member, since_s: float = 0.0) -> set[str]:
    """The ids of the jobs to hold that it has received since then."""
    received = (line for line in member.events("received") if line["at_s"] > since_s)
    return {line["id"] for line in received if line["id"].startswith(HELD)}


def _longest_gap_s(group: Group, since_s: float) -> float:
    times_s = sorted(at for at in group.times_s("claimed").values() if at > since_s)
    return max((later - earlier for earlier, later in itertools.pairwise(times_s)), default=0.0)


async def jobs_per_s(
    servers: Mapping[str, str], folder: Path, *, partitions: int, members: int, jobs: int, with_claim: bool
) -> float:
    """From the first publish to the last claim, or to the last receipt where nothing is claimed."""
    event = "claimed" if with_claim else "received"
    async with Group(servers, folder, partitions).open() as group:
        accepted = await group.accept(jobs)
        await group.join(members, *([] if with_claim else [NO_CLAIM]))
        began_s = time.time()
        for start in range(0, jobs, _TOGETHER):
            await asyncio.gather(*(group.publish(job) for job in accepted[start : start + _TOGETHER]))
        await until(lambda: len(group.times_s(event)) == jobs, _DEADLINE_S, f"all {event}")
        return jobs / (max(group.times_s(event).values()) - began_s)


def _quantiles(values_s: Sequence[float]) -> str:
    cuts = statistics.quantiles(values_s, n=20)
    return f"{cuts[9] * 1000:.1f} ms, {cuts[18] * 1000:.1f} ms"


async def run(parts: Sequence[str], partition_counts: Sequence[int], jobs: int) -> None:
    folder = Path(tempfile.mkdtemp(prefix="pagemill-broker-"))
    async with LocalServers(DataDir(folder / "servers"), kafka=KafkaKind.APACHE) as servers:
        apache = servers.environment
        if "latency" in parts:
            async with running_broker(KafkaKind.NOIDA, folder / "noida") as noida:
                columns = [dict(await latencies(each, folder)) for each in (apache, {**apache, **noida})]
            print("| p50 and p95, or time | Apache Kafka | noida-db |\n|---|---|---|")
            for name in columns[0]:
                print(f"| {name} | {columns[0][name]} | {columns[1][name]} |", flush=True)
        if "throughput" in parts:
            print("| jobs a second | 1 worker | 4 workers | 8 workers |\n|---|---|---|---|")
            for with_claim, partitions in itertools.product((False, True), partition_counts):
                what = {"partitions": partitions, "with_claim": with_claim, "jobs": jobs}
                found = [await jobs_per_s(apache, folder, members=members, **what) for members in (1, 4, 8)]
                to = "claim" if with_claim else "receipt"
                print(
                    f"| {partitions} partitions, to the {to} | {' | '.join(f'{rate:.0f}' for rate in found)} |",
                    flush=True,
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", choices=("latency", "throughput"), help="Default: both.")
    parser.add_argument("--jobs", type=int, default=1_000, help="The number of jobs for each throughput.")
    parser.add_argument("--partitions", type=int, action="append", help="For throughput. Default: 10 and 100.")
    options = parser.parse_args()
    asyncio.run(run(options.part or ("latency", "throughput"), options.partitions or (10, 100), options.jobs))


if __name__ == "__main__":
    main()
