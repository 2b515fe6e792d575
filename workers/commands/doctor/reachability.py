"""Check that each configured service answers. All requests run at the same time, within seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from ingestion.adapters.kafka.topic_check import topic_faults
from ingestion.bootstrap import open_services
from ingestion.errors import IngestError
from ingestion.settings import KafkaSettings, Settings
from workers.commands.doctor.checks import CheckResult, CheckStatus
from workers.stack import probes
from workers.stack.supervise import NotReady

_ANSWER_TIMEOUT_S: Final = 10.0


async def check_services(settings: Settings) -> list[CheckResult]:
    """Returns a result for each of the five servers, the embedding service and the API."""
    embedder_url, api_url = settings.embedder.embedder_url, settings.api.api_url
    async with open_services(settings) as services:
        answers = await asyncio.gather(
            _ask("kafka", settings.kafka.kafka_bootstrap, services.queue.ping),
            _ask("mongo", _without_password(settings.mongo.mongo_uri), services.documents.ping),
            _ask("redis", _without_password(settings.redis.redis_url), services.progress.ping),
            _ask("s3", settings.s3.s3_endpoint, services.blobs.ping),
            _ask("milvus", settings.milvus.milvus_uri, services.vectors.ping),
            _ask("embedder", embedder_url, lambda: probes.http_ready(f"{embedder_url}/ready")),
            _ask("api", api_url, lambda: probes.http_ready(f"{api_url}/ready")),
        )
    return [*answers, *await _topics(settings.kafka)]


async def _topics(settings: KafkaSettings) -> list[CheckResult]:
    """A result for each topic that is not as wanted. None if Kafka does not answer: another result says so."""
    try:
        async with asyncio.timeout(_ANSWER_TIMEOUT_S):
            faults = await topic_faults(settings)
    except (IngestError, TimeoutError):
        return []
    return [
        CheckResult(
            f"topic {fault.topic}",
            CheckStatus.MISSING if fault.loses_records else CheckStatus.WARN,
            fault.problem,
            fault.remedy,
        )
        for fault in faults
    ]


async def _ask(name: str, address: str, ping: Callable[[], Awaitable[None]]) -> CheckResult:
    try:
        async with asyncio.timeout(_ANSWER_TIMEOUT_S):
            await ping()
    except (IngestError, NotReady) as error:
        return CheckResult(f"{name} answers", CheckStatus.MISSING, f"{address}: {error}")
    except TimeoutError:
        return CheckResult(
            f"{name} answers", CheckStatus.MISSING, f"{address}: no answer within {_ANSWER_TIMEOUT_S:g} s"
        )
    return CheckResult(f"{name} answers", CheckStatus.OK, address)


def _without_password(uri: str) -> str:
    return uri.rpartition("@")[2].partition("?")[0]  # options may hold the password of a key
