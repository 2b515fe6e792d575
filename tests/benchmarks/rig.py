"""The rig of a benchmark: own names on five real servers, workers, and documents with jobs to publish at once."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import re
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import psutil
import pypdfium2
from aiokafka import AIOKafkaProducer
from motor.motor_asyncio import AsyncIOMotorClient
from redis import Redis

from ingestion.bootstrap import Services, open_services
from ingestion.messages import encode_job
from ingestion.model import DocumentState, IngestJob
from ingestion.prepare import prepare
from ingestion.retrying import retrying
from ingestion.sandbox.pool import Sandbox
from ingestion.settings import Settings
from ingestion.submit import Submitter, Upload
from tests.chaos.rig import settings_of
from tests.chaos.waiting import until
from tests.conftest import remove_bucket
from workers.stack.datadir import DataDir
from workers.stack.server_specs import DEFAULTS, MilvusKind
from workers.stack.servers import LocalServers
from workers.stack.stack_file import environment_of
from workers.stack.supervise import ProcessSpec, Supervised

SERVERS: Final = ("kafka", "mongo", "redis", "s3", "milvus")
_START_S: Final = 180.0
_LOOK_EVERY_S: Final = 0.1
_REDIS_DATABASES: Final = range(256, 512)


class HeldJobs:
    """A JobQueue for a Submitter that keeps the jobs in memory."""

    def __init__(self) -> None:
        self.jobs: list[IngestJob] = []

    async def publish(self, job: IngestJob) -> None:
        self.jobs.append(job)


class Worker:
    """A worker process as `tests.benchmarks.standin` makes it."""

    def __init__(self, name: str, environment: Mapping[str, str], folder: Path) -> None:
        argv = (sys.executable, "-P", "-m", "tests.benchmarks.standin")
        own = {"PAGEMILL_WORKER_ID": name, "PAGEMILL_LOG_FORMAT": "json", "PYTHONPATH": str(Path.cwd())}
        own["OPENBLAS_NUM_THREADS"] = "1"  # as in a worker; must be set before numpy is imported
        self._log_path = folder / f"{name}.log"
        self.process = Supervised(ProcessSpec(name, argv, "", _no_probe, env={**environment, **own}), self._log_path)

    @property
    def pid(self) -> int:
        return self.process.pid

    def events(self, event: str) -> list[dict[str, Any]]:
        """The log lines of `event`."""
        lines = [line for line in self._log_path.read_bytes().splitlines() if line.startswith(b"{")]
        return [entry for entry in map(json.loads, lines) if entry["event"] == event]

    async def ready(self) -> None:
        """Wait until the group has assigned its partitions."""
        await until(lambda: self.events("partitions assigned"), _START_S, f"{self.process.spec.name} is at work")
        self.health_port = self.events("worker started")[0]["health_port"]

    async def counters(self) -> dict[str, float]:
        """Every series of its /metrics, by name and labels."""
        async with httpx.AsyncClient() as client:
            text = (await client.get(f"http://127.0.0.1:{self.health_port}/metrics")).text
        return {name: float(value) for name, value in re.findall(r"^([^#\s]+(?:\{.*\})?) (\S+)$", text, re.MULTILINE)}


@dataclass(slots=True)
class Bench:
    """The servers, settings and documents of one benchmark."""

    settings: Settings
    services: Services
    environment: dict[str, str]
    """Environment of the workers."""
    server_pids: dict[str, int]
    folder: Path
    collection: str
    workers: list[Worker] = field(default_factory=list)

    async def start(self, count: int, **environment: str) -> list[Worker]:
        """Run `count` workers during the block, with `environment` added to theirs."""
        known = len(self.workers)
        fresh = [Worker(f"worker-{known + n}", {**self.environment, **environment}, self.folder) for n in range(count)]
        self.workers += fresh
        for worker in fresh:
            await worker.process.start()
        await asyncio.gather(*(worker.ready() for worker in fresh))
        return fresh

    async def accept(self, contents: Iterable[bytes]) -> list[IngestJob]:
        """Upload PDFs like the API, but return the jobs in place of publishing them."""
        held = HeldJobs()
        services = self.services
        submitter = Submitter(
            records=services.documents,
            blobs=services.blobs,
            queue=held,  # type: ignore[arg-type]  # of a queue, a submitter uses `publish` alone
            progress=services.progress,
            sandbox=Sandbox(processes=1, memory_bytes=1 << 30),
            max_pages=self.settings.api.max_pages,
            inspect_timeout_s=self.settings.api.inspect_timeout_s,
        )
        for content in contents:
            path = self.folder / f"{secrets.token_hex(4)}.pdf"
            path.write_bytes(content)
            upload = Upload(path.name, path, hashlib.sha256(content).hexdigest(), len(content))
            await submitter.submit(self.collection, upload)
            path.unlink()
        return held.jobs

    async def publish(self, jobs: Sequence[IngestJob]) -> None:
        """Publish all jobs at once, round-robin over the partitions, so that each worker gets equally many."""
        kafka = self.settings.kafka
        async with AIOKafkaProducer(bootstrap_servers=kafka.kafka_bootstrap, acks="all") as producer:
            for number, (key, value, headers) in enumerate(map(encode_job, jobs)):
                partition = number % kafka.kafka_partitions
                await producer.send(kafka.kafka_jobs_topic, value, key, partition, headers=headers)
            await producer.flush()

    async def all_ready(self, count: int, timeout_s: float) -> None:
        """Wait until `count` documents are ready. Raises AssertionError if one fails, or after `timeout_s`."""
        client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(self.settings.mongo.mongo_uri)
        documents = client[self.settings.mongo.mongo_database]["documents"]
        deadline = time.monotonic() + timeout_s
        while await documents.count_documents({"state": DocumentState.READY.value}) < count:
            failed = await documents.find_one({"state": DocumentState.FAILED.value})
            assert failed is None, failed
            assert time.monotonic() < deadline, f"{count} documents are not ready after {timeout_s:g} s"
            await asyncio.sleep(_LOOK_EVERY_S)
        client.close()


@asynccontextmanager
async def open_bench(worker: Mapping[str, str], milvus: MilvusKind = MilvusKind.LITE) -> AsyncIterator[Bench]:
    """`worker`: settings of all workers. Uses the servers in the stack.json $PAGEMILL_TEST_STACK, its Milvus included,
    or starts new ones."""
    folder = Path(tempfile.mkdtemp(prefix="pagemill-bench-"))
    if given := os.environ.get("PAGEMILL_TEST_STACK"):
        stack = json.loads(Path(given).read_text())
        pids = {process["name"]: process["pid"] for process in stack["processes"]}
        environment = environment_of(stack)
        async with _bench(environment, pids, folder, worker, MilvusKind(stack["milvus_kind"])) as bench:
            yield bench
        return
    servers = folder / "servers"
    try:
        async with LocalServers(DataDir(servers), milvus) as local:
            pids = {process.spec.name: process.pid for process in local.processes}
            async with _bench(local.environment, pids, folder, worker, milvus) as bench:
                yield bench
    finally:
        shutil.rmtree(servers, ignore_errors=True)  # gigabytes; the logs of workers stay


@asynccontextmanager
async def _bench(
    servers: Mapping[str, str], pids: dict[str, int], folder: Path, worker: Mapping[str, str], milvus: MilvusKind
) -> AsyncIterator[Bench]:
    name = f"bench-{secrets.token_hex(4)}"
    environment = {**servers, **DEFAULTS[milvus], **_own_names(servers, name), **worker}
    settings = settings_of(environment)
    await prepare(settings)
    async with open_services(settings) as services:
        pids = {server: pids[server] for server in SERVERS}
        bench = Bench(settings, services, environment, pids, folder, name.replace("-", "_"))
        try:
            yield bench
        finally:
            await asyncio.gather(*(worker.process.stop() for worker in bench.workers))
            await _remove(bench)


def _own_names(servers: Mapping[str, str], name: str) -> dict[str, str]:
    redis_server, _, _ = servers["PAGEMILL_REDIS_URL"].rpartition("/")
    return {
        "PAGEMILL_MONGO_DATABASE": name.replace("-", "_"),
        "PAGEMILL_S3_BUCKET": name,
        "PAGEMILL_KAFKA_JOBS_TOPIC": f"{name}.jobs",
        "PAGEMILL_KAFKA_EVENTS_TOPIC": f"{name}.events",
        "PAGEMILL_KAFKA_GROUP": name,
        "PAGEMILL_REDIS_URL": f"{redis_server}/{secrets.choice(_REDIS_DATABASES)}",
    }


async def _remove(bench: Bench) -> None:
    """Delete the data of a run from the stores."""
    client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(bench.settings.mongo.mongo_uri)
    await client.drop_database(bench.settings.mongo.mongo_database)
    client.close()
    await retrying(bench.services.vectors.drop, bench.collection)
    with Redis.from_url(bench.settings.redis.redis_url) as redis:
        redis.flushdb()
    await asyncio.to_thread(remove_bucket, bench.settings.s3)


def excerpts(path: Path, pages: int, count: int = 1, first_page: int = 1) -> list[bytes]:
    """`count` PDFs of `pages` consecutive pages each, from `first_page` on, wrapping around at the end."""
    found = []
    with pypdfium2.PdfDocument(path) as whole:
        for number in range(count):
            first = first_page - 1 + number * pages
            with pypdfium2.PdfDocument.new() as part:
                part.import_pages(whole, [(first + page) % len(whole) for page in range(pages)])
                buffer = io.BytesIO()
                part.save(buffer)
                found.append(buffer.getvalue())
    return found


def cpu_s(process: psutil.Process) -> float:
    """CPU seconds of the process and all its children, ended ones included."""
    total = 0.0
    for one in (process, *process.children(recursive=True)):
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


async def _no_probe() -> None:
    """Returns at once: `Worker.ready` reads the log."""
