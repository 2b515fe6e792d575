"""A scratch installation for faults: an API and a worker of its own, behind proxies, on the servers of the system.

It has topics, a consumer group and a collection of its own, so that no worker of the system gets its jobs. Database,
bucket and embedding service are those of the system.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx
import structlog

from ingestion.adapters.kafka.topics import ensure_topics, remove_topics
from ingestion.client.client import ApiClient, connect
from ingestion.client.target import Target
from ingestion.errors import IngestError
from ingestion.settings import KafkaSettings, Settings
from workers.stack import app_specs
from workers.stack.datadir import DataDir
from workers.stack.supervise import ProcessSpec, Supervised
from workers.validation.proxy import Proxy

log = structlog.get_logger(__name__)

_WORKER: Final = "validation-worker"
_DRAIN_S: Final = 5.0
_READY_TIMEOUT_S: Final = 5.0
_SETTINGS: Final = {
    "PAGEMILL_EMBEDDER": "remote",
    "PAGEMILL_RENDER_WINDOW_PAGES": "2",
    "PAGEMILL_JOBS_IN_FLIGHT": "1",
    "PAGEMILL_LEASE_S": "10",
    "PAGEMILL_RETRY_DELAYS_S": "1,2",
    "PAGEMILL_KAFKA_PARTITIONS": "1",
    "PAGEMILL_MILVUS_TIMEOUT_S": "15",
    "PAGEMILL_DRAIN_S": f"{_DRAIN_S:g}",
    "PAGEMILL_LOG_FORMAT": "json",
}
"""Small windows and short waits, so that a fault is met in the middle of a document and is over soon."""


@dataclass(frozen=True, slots=True)
class ScratchInstallation:
    """`proxies` stand before `milvus`, `s3` and `embedder`."""

    api: ApiClient
    target: Target
    collection: str
    worker_url: str
    proxies: dict[str, Proxy]

    async def outages(self, http: httpx.AsyncClient) -> list[str]:
        """Return the servers that the worker's /ready names."""
        response = await http.get(f"{self.worker_url}/ready", timeout=_READY_TIMEOUT_S)
        return [str(outage["dependency"]) for outage in response.json()["outages"]]


@asynccontextmanager
async def open_scratch(settings: Settings, api_key: str, folder: Path) -> AsyncIterator[ScratchInstallation]:
    """Start it on the servers of `settings`, and remove all of it at the end. Logs go to `folder`.

    Raises StackError where a process does not start, DependencyUnavailable.
    """
    name = f"validate-{secrets.token_hex(4)}"
    directory = DataDir(folder)
    directory.make()
    async with AsyncExitStack() as stack:
        proxies = {
            server: await stack.enter_async_context(Proxy(_host_and_port(address)))
            for server, address in _addresses(settings).items()
        }
        ports = directory.ports((app_specs.API, _WORKER))
        environment = {
            **_SETTINGS,
            **_own_names(name),
            **_proxied(settings, proxies),
            **_api_environment(ports[app_specs.API], api_key),
        }
        topics = settings.kafka.model_copy(update=_own_topics(name))
        await ensure_topics(topics)
        stack.push_async_callback(_remove_topics, topics)
        target = Target(environment["PAGEMILL_API_URL"], api_key, "the scratch API has ended", is_local=True)
        api = await stack.enter_async_context(connect(target))
        specs = (
            app_specs.api_spec(ports, environment),
            app_specs.worker_spec(_WORKER, ports, environment, drain_s=_DRAIN_S),
        )
        collection = name.replace("-", "_")
        await asyncio.gather(*(_start(stack, directory, spec) for spec in specs))
        stack.push_async_callback(_delete_collection, api, collection)
        yield ScratchInstallation(api, target, collection, specs[1].address, proxies)


def require_plain(settings: Settings) -> str:
    """Return why no proxy can stand before the servers; empty where one can."""
    secured = [
        address for address in (settings.milvus.milvus_uri, settings.embedder.embedder_url) if "https://" in address
    ]
    if settings.s3.s3_secure:
        secured.append(settings.s3.s3_endpoint)
    return f"{secured[0]} is encrypted: a proxy of this command cannot stand before it" if secured else ""


async def _start(stack: AsyncExitStack, directory: DataDir, spec: ProcessSpec) -> None:
    process = Supervised(spec, directory.log_path(spec.name))
    stack.push_async_callback(process.stop)
    await process.start()
    await process.wait_ready()


async def _delete_collection(api: ApiClient, collection: str) -> None:
    try:
        await api.delete_collection(collection)
    except IngestError as error:
        log.warning("scratch collection not deleted", collection=collection, cause=error.message)


async def _remove_topics(settings: KafkaSettings) -> None:
    try:
        await remove_topics(settings)
    except IngestError as error:
        log.warning("scratch topics not deleted", topic=settings.kafka_jobs_topic, cause=error.message)


def _addresses(settings: Settings) -> dict[str, str]:
    return {
        "milvus": settings.milvus.milvus_uri,
        "s3": settings.s3.s3_endpoint,
        "embedder": settings.embedder.embedder_url.split(",")[0],
    }


def _host_and_port(address: str) -> str:
    return urlsplit(address).netloc if "://" in address else address


def _proxied(settings: Settings, proxies: dict[str, Proxy]) -> dict[str, str]:
    variables = {"milvus": "PAGEMILL_MILVUS_URI", "s3": "PAGEMILL_S3_ENDPOINT", "embedder": "PAGEMILL_EMBEDDER_URL"}
    return {
        variables[server]: address.replace(_host_and_port(address), proxies[server].address)
        for server, address in _addresses(settings).items()
    }


def _own_topics(name: str) -> dict[str, object]:
    return {
        "kafka_jobs_topic": f"{name}.jobs",
        "kafka_events_topic": f"{name}.events",
        "kafka_group": name,
        "kafka_partitions": 1,
        "retry_delays_s": (1, 2),
    }


def _own_names(name: str) -> dict[str, str]:
    return {
        "PAGEMILL_KAFKA_JOBS_TOPIC": f"{name}.jobs",
        "PAGEMILL_KAFKA_EVENTS_TOPIC": f"{name}.events",
        "PAGEMILL_KAFKA_GROUP": name,
    }


def _api_environment(port: int, api_key: str) -> dict[str, str]:
    return {
        "PAGEMILL_API_HOST": "127.0.0.1",
        "PAGEMILL_API_PORT": str(port),
        "PAGEMILL_API_URL": f"http://127.0.0.1:{port}",
        "PAGEMILL_API_KEY": api_key,
        "PAGEMILL_WORKER_METRICS_HOST": "127.0.0.1",
        "PAGEMILL_KAFKA_STATIC_MEMBERSHIP": os.environ.get("PAGEMILL_KAFKA_STATIC_MEMBERSHIP", "false"),
    }
