"""The rig of one run: own names on five real servers, a proxy before each server, workers behind the proxies.

workers -> proxies -> kafka, mongo, redis, s3, milvus, embedding service (no proxy before several brokers)
rig (submits, audits) -> servers, without proxies
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from unittest import mock
from urllib.parse import urlsplit

from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorDatabase
from redis import Redis

from ingestion.bootstrap import Services, open_services
from ingestion.errors import Conflict
from ingestion.model import Document, DocumentState, IngestJob
from ingestion.prepare import prepare
from ingestion.sandbox.pool import Sandbox
from ingestion.settings import Settings
from ingestion.submit import Submitter, Upload
from tests.chaos.broker import RunTopics
from tests.chaos.documents import Source
from tests.chaos.embedding import EmbeddingServer
from tests.chaos.fleet import Fleet
from tests.chaos.proxy import PASS, Proxies, Proxy
from tests.chaos.waiting import until_async
from tests.conftest import clean_environment, remove_bucket
from workers.wiring import canceller_of, remover_of

SERVERS: Final = ("kafka", "mongo", "redis", "s3", "milvus", "embedder")

_ADDRESSES: Final = {
    "kafka": "PAGEMILL_KAFKA_BOOTSTRAP",
    "mongo": "PAGEMILL_MONGO_URI",
    "redis": "PAGEMILL_REDIS_URL",
    "s3": "PAGEMILL_S3_ENDPOINT",
    "milvus": "PAGEMILL_MILVUS_URI",
    "embedder": "PAGEMILL_EMBEDDER_URL",
}
_BROKER_OF_CHOICE: Final = "PAGEMILL_TEST_KAFKA"
_REDIS_DATABASES: Final = range(256, 512)
_SETTLED: Final = [state.value for state in DocumentState if state.is_settled]

WORKER_SETTINGS: Final = {
    "PAGEMILL_EMBEDDER": "remote",
    "PAGEMILL_IMAGE_FORMAT": "webp",  # expected by the audit
    "PAGEMILL_DPI_POLICY": "fixed",
    "PAGEMILL_FIXED_DPI": "40",
    "PAGEMILL_RENDER_WINDOW_PAGES": "2",
    "PAGEMILL_RENDER_PROCESSES": "1",
    "PAGEMILL_JOBS_IN_FLIGHT": "2",
    "PAGEMILL_RETRY_DELAYS_S": "1,2",
    "PAGEMILL_KAFKA_SESSION_TIMEOUT_MS": "6000",
    "PAGEMILL_KAFKA_MAX_POLL_INTERVAL_MS": "6000",
    "PAGEMILL_HNSW_M": "16",
    "PAGEMILL_HNSW_EF_CONSTRUCTION": "100",
    "PAGEMILL_LOG_FORMAT": "json",
}
"""Settings for small pages and short timeouts. A scenario may override them."""


@dataclass(slots=True)
class Rig:
    """The servers, proxies, workers and documents of one scenario."""

    settings: Settings
    services: Services
    submitter: Submitter
    database: AsyncIOMotorDatabase[dict[str, Any]]
    broker: RunTopics
    proxies: dict[str, Proxy]
    embedding: EmbeddingServer
    fleet: Fleet
    worker_environment: dict[str, str]
    """Environment of the workers, with the addresses of the proxies."""
    folder: Path
    collection: str
    sources: dict[str, Source] = field(default_factory=dict)
    """The accepted documents' sources, by document id."""

    async def submit(self, sources: Sequence[Source], submitter: Submitter | None = None) -> list[Document]:
        """Upload `sources` like the API, without proxies unless `submitter` uses them."""
        return [await self._submit_one(source, submitter or self.submitter) for source in sources]

    async def delete(self, ids: Collection[str]) -> list[Source]:
        """Delete accepted documents like the API, without proxies. Returns their sources."""
        await asyncio.gather(*(remover_of(self.services).delete_document(id_) for id_ in ids))
        return [self.sources.pop(id_) for id_ in ids]

    async def cancel(self, ids: Collection[str]) -> list[Source]:
        """Cancel accepted documents like the API, without proxies. Returns the sources of those that are cancelled."""
        cancelled = []
        for id_ in ids:
            with suppress(Conflict):  # it is ready already
                await canceller_of(self.services).cancel_document(id_)
                cancelled.append(self.sources[id_])
        return cancelled

    def jobs(self, ids: Iterable[str]) -> list[IngestJob]:
        """The published jobs of accepted documents."""
        return [
            IngestJob(id_, self.collection, source.filename, len(source.texts))
            for id_, source in ((id_, self.sources[id_]) for id_ in ids)
        ]

    async def records(self) -> dict[str, dict[str, Any]]:
        """Every document's record in MongoDB, by id."""
        return {record["_id"]: record async for record in self.database["documents"].find({})}

    async def settled(self) -> int:
        """Number of settled documents."""
        return await self.database["documents"].count_documents({"state": {"$in": _SETTLED}})

    async def all_settled(self, timeout_s: float) -> None:
        """Wait until every accepted document is ready or has failed."""

        async def are_settled() -> bool:
            return await self.settled() >= len(self.sources)

        await until_async(are_settled, timeout_s, f"{len(self.sources)} documents settled")

    async def all_dead_letters_sent(self, timeout_s: float) -> None:
        """Wait until every accepted document has failed and its dead letter, written after it, is in the topic."""

        async def are_sent() -> bool:
            return all(record["letter"] == "sent" for record in (await self.records()).values())

        await until_async(are_sent, timeout_s, f"{len(self.sources)} dead letters")

    async def all_ready(self, ids: Collection[str], timeout_s: float) -> dict[str, dict[str, Any]]:
        """Wait until these documents are ready. Returns their records."""
        found: dict[str, dict[str, Any]] = {}

        async def are_ready() -> bool:
            records = await self.records()
            found.update({id_: records[id_] for id_ in ids})
            return all(record["state"] == DocumentState.READY for record in found.values())

        await until_async(are_ready, timeout_s, f"{list(ids)} ready")
        return found

    def seen(self) -> Counter[str]:
        """Number of embeddings of each page, by its text, without the pages of the workers' self-test."""
        texts = {text for source in self.sources.values() for text in source.texts}
        return Counter({text: count for text, count in self.embedding.embedder.seen.items() if text in texts})

    async def _submit_one(self, source: Source, submitter: Submitter) -> Document:
        path = self.folder / source.filename
        path.write_bytes(source.content)
        digest = hashlib.sha256(source.content).hexdigest()
        upload = Upload(source.filename, path, digest, len(source.content))
        document = await submitter.submit(self.collection, upload)
        path.unlink()
        self.sources[document.id] = source
        return document


@asynccontextmanager
async def open_rig(
    servers: Mapping[str, str], folder: Path, embed_s: float, worker: Mapping[str, str]
) -> AsyncIterator[Rig]:
    """A rig on the servers of the settings `servers`. `worker`: further settings of its workers.

    `embed_s`: seconds of a request to the embedding service. The workers' logs go to `folder`.
    """
    run = f"chaos-{secrets.token_hex(4)}"
    collection = run.replace("-", "_")
    own = _own_names(servers, run)
    with Proxies() as proxies, EmbeddingServer(embed_s) as embedding:
        direct = {**servers, **WORKER_SETTINGS, **own, "PAGEMILL_EMBEDDER_URL": f"http://{embedding.address}"}
        settings = settings_of(direct)
        before = {
            name: proxies.to(_host_and_port(direct[_ADDRESSES[name]]), is_kafka=name == "kafka")
            for name in SERVERS
            if "," not in direct[_ADDRESSES[name]]  # a proxy stands for one broker
        }
        proxied = {_ADDRESSES[name]: _through(direct[_ADDRESSES[name]], proxy) for name, proxy in before.items()}
        worker_environment = {**direct, **proxied, **worker}
        fleet = Fleet(worker_environment, folder)
        await prepare(settings)
        client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(settings.mongo.mongo_uri)
        try:
            async with open_services(settings) as services, RunTopics(settings.kafka) as broker:
                database = client[settings.mongo.mongo_database]
                yield Rig(
                    settings,
                    services,
                    submitter_of(services),
                    database,
                    broker,
                    before,
                    embedding,
                    fleet,
                    worker_environment,
                    folder,
                    collection,
                )
        finally:
            for proxy in before.values():
                proxy.impose(PASS)
            await fleet.stop()
            await _remove(settings, client, collection)


def submitter_of(services: Services) -> Submitter:
    return Submitter(
        records=services.documents,
        blobs=services.blobs,
        queue=services.queue,
        progress=services.progress,
        sandbox=Sandbox(processes=1, memory_bytes=1 << 30),
        max_pages=services.settings.api.max_pages,
        inspect_timeout_s=services.settings.api.inspect_timeout_s,
    )


def settings_of(environment: Mapping[str, str]) -> Settings:
    """Settings from these environment variables only, without those of this process."""
    with mock.patch.dict(os.environ, {**clean_environment(), **environment}, clear=True):
        return Settings()


def _own_names(servers: Mapping[str, str], run: str) -> dict[str, str]:
    redis_server, _, _ = servers["PAGEMILL_REDIS_URL"].rpartition("/")
    own = {
        "PAGEMILL_MONGO_DATABASE": run.replace("-", "_"),
        "PAGEMILL_S3_BUCKET": run,
        "PAGEMILL_KAFKA_JOBS_TOPIC": f"{run}.jobs",
        "PAGEMILL_KAFKA_EVENTS_TOPIC": f"{run}.events",
        "PAGEMILL_KAFKA_GROUP": run,
        "PAGEMILL_KAFKA_PARTITIONS": "6",
        "PAGEMILL_JANITOR_GRACE_S": "0.001",
        "PAGEMILL_REDIS_URL": f"{redis_server}/{secrets.choice(_REDIS_DATABASES)}",
    }
    if broker := os.environ.get(_BROKER_OF_CHOICE):
        own |= {"PAGEMILL_KAFKA_BOOTSTRAP": broker, "PAGEMILL_KAFKA_STAND_IN": "false"}
    return own


def _host_and_port(address: str) -> str:
    return urlsplit(address).netloc if "://" in address else address


def _through(address: str, proxy: Proxy) -> str:
    return address.replace(_host_and_port(address), proxy.address)


async def _remove(settings: Settings, client: AsyncIOMotorClient[dict[str, Any]], collection: str) -> None:
    """Delete the data of a run, so that many runs can share the servers."""
    await client.drop_database(settings.mongo.mongo_database)
    client.close()
    async with open_services(settings) as services:
        await services.vectors.drop(collection)
    with Redis.from_url(settings.redis.redis_url) as redis:
        redis.flushdb()
    remove_bucket(settings.s3)
