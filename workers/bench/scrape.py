"""Reads metrics of running processes: the Prometheus text format over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx
from prometheus_client.parser import text_string_to_metric_families

LAG: Final = "kafka_consumer_lag"
_TIMEOUT_S: Final = 2.0
OWN_PROCESSES: Final = ("api", "embedder", "worker-", "janitor")


@dataclass(frozen=True, slots=True)
class Reading:
    """One sample of a metric."""

    name: str
    labels: Mapping[str, str]
    value: float


def metrics_urls(stack: Mapping[str, Any] | None) -> list[str]:
    """Return the addresses of the metrics of a local stack's API, embedding service, workers and janitor."""
    if stack is None:
        return []
    return [
        f"{process['address']}/metrics" for process in stack["processes"] if process["name"].startswith(OWN_PROCESSES)
    ]


async def scrape(http: httpx.AsyncClient, url: str) -> list[Reading] | None:
    """Return the samples at `url`. Return None where it does not answer with metrics."""
    try:
        response = await http.get(url, timeout=_TIMEOUT_S)
        response.raise_for_status()
        families = list(text_string_to_metric_families(response.text))
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return None
    return [Reading(one.name, one.labels, one.value) for family in families for one in family.samples]


async def scrape_all(http: httpx.AsyncClient, urls: Sequence[str]) -> list[Reading]:
    """Return the samples of all addresses that answer."""
    found = await asyncio.gather(*(scrape(http, url) for url in urls))
    return [reading for readings in found if readings is not None for reading in readings]


def total(readings: Sequence[Reading], name: str) -> float | None:
    """Return the sum of a metric over processes and labels. Return None where no process has it."""
    values = [reading.value for reading in readings if reading.name == name]
    return sum(values) if values else None
