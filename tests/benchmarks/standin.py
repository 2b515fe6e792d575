"""`pagemill serve worker` with a simulated device: the worker of the benchmarks.

    python -m tests.benchmarks.standin

Everything is the product's code, the batcher included, except the model: it returns 768 prepared vectors of 128
dimensions per page and keeps the device busy for PAGEMILL_BENCH_GPU_MS per page. With PAGEMILL_BENCH_DISCARD_ROWS=1,
rows are packed into requests but not sent, so that the vector database costs nothing. With PAGEMILL_BENCH_UNFAIR=1,
each record serves its own document, in the order of arrival.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Final
from unittest import mock

import numpy as np
import psutil
from prometheus_client import REGISTRY, Gauge
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from ingestion.adapters.milvus.rows import upsert_requests
from ingestion.adapters.milvus.store import MilvusVectorStore
from ingestion.model import Page, PageVectors, Vectors
from ingestion.settings import EmbedderSettings, RenderSettings
from workers import cli
from workers.consumer.loop import JobLoop
from workers.embedding.batching.batcher import Batcher

TOKENS: Final = 768
DIM: Final = 128
GPU_MS: Final = "PAGEMILL_BENCH_GPU_MS"
DISCARD_ROWS: Final = "PAGEMILL_BENCH_DISCARD_ROWS"
PIXELS: Final = "PAGEMILL_BENCH_PIXELS"
UNFAIR: Final = "PAGEMILL_BENCH_UNFAIR"
_KEPT: Final = 64
"""Vectors of different pages, used in turn."""


@dataclass(frozen=True)
class Waiting:
    """A prepared page."""

    cost: int = TOKENS


class NoDevice:
    """A BatchedModel whose forward sleeps."""

    def __init__(self, gpu_s: float) -> None:
        self._gpu_s = gpu_s
        vectors = np.random.default_rng(1).standard_normal((_KEPT, TOKENS, DIM)).astype(np.float32)
        self._vectors = itertools.cycle(vectors / np.linalg.norm(vectors, axis=2, keepdims=True))
        self._done = Gauge("bench_device_pages", "pages that the device has finished")
        self._done_at = Gauge("bench_device_seconds", "time of the last finished page, monotonic clock")

    def prepare(self, item: Page) -> Waiting:
        return Waiting()

    def forward(self, batch: Sequence[Waiting]) -> None:
        if self._gpu_s:
            time.sleep(self._gpu_s * len(batch))
        self._done.inc(len(batch))
        self._done_at.set(time.monotonic())

    def finish(self, raw: None, batch: Sequence[Waiting]) -> list[Vectors]:
        return [next(self._vectors) for _ in batch]

    def on_out_of_memory(self) -> None:
        """Nothing to free."""


class StandIn:
    """Embedder."""

    dim = DIM
    fingerprint = f"bench/{TOKENS}x{DIM}"

    def __init__(self, batcher: Batcher[Page, Waiting, None], *, wants_pixels: bool) -> None:
        self._batcher = batcher
        self.wants_pixels = wants_pixels

    async def embed_pages(self, pages: Sequence[Page]) -> list[Vectors]:
        return await self._batcher.embed(pages)

    async def embed_queries(self, queries: Sequence[str]) -> list[Vectors]:
        raise NotImplementedError("this stand-in serves no queries")


@asynccontextmanager
async def open_stand_in(settings: EmbedderSettings, render: RenderSettings) -> AsyncIterator[StandIn]:
    """Replaces `workers.embedding.factory.open_embedder`."""
    model = NoDevice(float(os.environ.get(GPU_MS, "0")) / 1000)
    batcher = Batcher[Page, Waiting, None](
        model, batch_cost=settings.embed_batch_patches, wait_ms=settings.embed_wait_ms
    )
    try:
        yield StandIn(batcher, wants_pixels=os.environ.get(PIXELS) == "1")
    finally:
        await batcher.close()


class ThreadTimes(Collector):
    """CPU seconds by thread name without its number; "other" are threads of C libraries."""

    def collect(self) -> Iterator[CounterMetricFamily]:
        names = {thread.native_id: thread.name.rstrip("0123456789-_ ") for thread in threading.enumerate()}
        used: dict[str, float] = {}
        for thread in psutil.Process().threads():
            name = names.get(thread.id, "other")
            used[name] = used.get(name, 0.0) + thread.user_time + thread.system_time
        family = CounterMetricFamily("bench_thread_cpu_seconds", "CPU time by thread", labels=["thread"])
        for name, seconds in used.items():
            family.add_metric([name], seconds)
        yield family


async def _discard(self: MilvusVectorStore, collection: str, pages: Sequence[PageVectors]) -> None:
    for request in upsert_requests(collection, pages):
        request.SerializeToString()


def _loop_without_flows(*args: Any, flows: object, **options: Any) -> JobLoop:
    return JobLoop(*args, **options)


def main() -> None:
    REGISTRY.register(ThreadTimes())
    discarding: AbstractContextManager[object] = nullcontext()
    if os.environ.get(DISCARD_ROWS) == "1":
        discarding = mock.patch.object(MilvusVectorStore, "upsert", _discard)
    sys.argv = ["pagemill", "serve", "worker"]
    ordering: AbstractContextManager[object] = nullcontext()
    if os.environ.get(UNFAIR) == "1":
        ordering = mock.patch("workers.worker.JobLoop", _loop_without_flows)
    with mock.patch("workers.worker.open_embedder", open_stand_in), discarding, ordering:
        cli.main()


if __name__ == "__main__":
    main()
