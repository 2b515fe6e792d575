"""Sections about pages that keep coming: batcher, obvious loop, text queries beside pages, whole worker."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, cast

import numpy as np
import torch
from PIL import Image
from transformers import AutoProcessor

from ingestion.concurrency.tasks import gather_or_cancel
from ingestion.errors import WorkerFault
from ingestion.messages import Record, encode_job
from ingestion.settings import RenderSettings, VectorSettings, WorkerSettings
from ingestion.vectors.encoding import VectorEncoding
from workers.attempt.claims import Claims
from workers.attempt.outcomes import OutcomePublisher
from workers.attempt.retry_policy import FailureRun
from workers.attempt.store import PageStore
from workers.embedding.batching.batcher import Batcher
from workers.embedding.visual.embedder import VisualEmbedder
from workers.embedding_report.context import FALLBACK_PAGES, Context, Deadline
from workers.embedding_report.metering import MeteredModel
from workers.embedding_report.samples import mixed_pages, pdf, queries
from workers.embedding_report.sink import SinkBlobs, SinkMessages, SinkRecords, SinkVectors
from workers.pipeline import Pipeline
from workers.rendering.renderer import PdfRenderer

_DOCUMENTS: Final = 4
_WINDOWS: Final = 3
_WINDOW_PAGES: Final = 8
"""As in a worker: documents at a time, windows of a document in the embedder, and pages of a window."""
_PAGES_OF_DOCUMENT: Final = 24
_FEW_PAGES: Final = 3
"""On a CPU, in one job at a time."""
_QUERY_PAUSE_S: Final = 0.05
_ATTEMPTS: Final = 5
"""The last attempt of a document runs alone. Here each has one: a failure ends the section."""


def batcher(context: Context, deadline: Deadline) -> dict[str, Any]:
    """Pages of several shapes through the product's batcher, as a worker's pipeline sends them."""
    return asyncio.run(_paged(context, deadline))


def queries_beside(context: Context, deadline: Deadline) -> dict[str, Any]:
    """Text queries one after another: alone for a third of the time, then beside pages."""

    async def run() -> dict[str, Any]:
        alone = await _asked(context, Deadline.after(deadline.left_s / 3), with_pages=False)
        beside = await _asked(context, deadline, with_pages=True)
        return {"alone": alone, "beside_pages": beside}

    return asyncio.run(run())


def obvious_loop(context: Context, deadline: Deadline) -> dict[str, Any]:
    """transformers' processor and model as their documentation calls them, a fixed batch at a time."""
    network = context.model.network
    reader: Any = AutoProcessor
    processor = reader.from_pretrained(context.folder, local_files_only=True)
    images = ((Image.fromarray(np.asarray(page.pixels))) for page in mixed_pages(context.is_small))
    size, pages, busy_s = FALLBACK_PAGES, 0, 0.0
    started: float | None = None  # the first batch is slower, and is not counted
    while not pages or not deadline.is_past:
        batch = list(itertools.islice(images, size))
        try:
            took_s = _embed_as_documented(network, processor, batch)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            if size == 1:
                raise
            size //= 2
            continue
        if started is None:
            started = time.perf_counter()
        else:
            pages, busy_s = pages + size, busy_s + took_s
    assert started is not None
    seconds = time.perf_counter() - started
    return {
        "batch_pages": size,
        "pages": pages,
        "pages_per_s": pages / seconds,
        "busy_share": busy_s / seconds,
    }


@torch.inference_mode()
def _embed_as_documented(network: Any, processor: Any, images: Sequence[Image.Image]) -> float:
    """Returns the seconds of the device."""
    inputs = processor(images=list(images), return_tensors="pt").to(network.device)
    began = time.perf_counter()
    found = network(**inputs).embeddings.float().cpu()  # waits for the device
    took_s = time.perf_counter() - began
    mask = inputs["attention_mask"].bool().cpu()
    for vectors, kept in zip(found, mask, strict=True):
        vectors[kept].numpy()
    return took_s


def worker(context: Context, deadline: Deadline) -> dict[str, Any]:
    """PDFs through the whole pipeline on stores that drop what they get, as many as the time allows."""
    return asyncio.run(_worked(context, deadline))


async def _paged(context: Context, deadline: Deadline) -> dict[str, Any]:
    metered, cost = _metered(context)
    warm_up = list(itertools.islice(mixed_pages(context.is_small), _WINDOW_PAGES))
    async with _batcher(context, context.model, cost) as running:
        await running.embed(warm_up)
    async with _batcher(context, metered, cost) as running:
        began = time.perf_counter()
        pages = await _send(running, deadline, context.is_small)
        seconds = time.perf_counter() - began
    return {
        "pages": pages,
        "pages_per_s": pages / seconds,
        "busy_share": metered.busy_s / seconds,
        "padding_share": metered.padding_share,
        "batches": metered.batches,
        "batch_patches": context.batch_cost(cost),
        "prepare_cpu_ms": metered.prepare_cpu_ms,
    }


async def _send(running: Batcher[Any, Any, Any], deadline: Deadline, is_small: bool) -> int:
    """Windows of several documents at a time until the deadline, one at least. Returns the pages that are embedded."""
    pages = mixed_pages(is_small)
    done = 0

    async def windows() -> None:
        nonlocal done
        is_over = False
        while not is_over:
            window = list(itertools.islice(pages, _WINDOW_PAGES))
            done += len(await running.embed(window))
            is_over = deadline.is_past

    await gather_or_cancel(*(windows() for _ in range(1 if is_small else _DOCUMENTS * _WINDOWS)))
    return done


async def _asked(context: Context, deadline: Deadline, *, with_pages: bool) -> dict[str, Any]:
    metered, cost = _metered(context)
    texts = queries()
    seconds: list[float] = []

    async def ask(running: Batcher[Any, Any, Any]) -> int:
        while not deadline.is_past or not seconds:
            asked = time.perf_counter()
            await running.embed([next(texts)], urgent=True)
            seconds.append(time.perf_counter() - asked)
            await asyncio.sleep(_QUERY_PAUSE_S)
        return 0

    async with _batcher(context, metered, cost) as running:
        await running.embed([next(texts)], urgent=True)  # warms up
        began = time.perf_counter()
        sending = [_send(running, deadline, context.is_small)] if with_pages else []
        pages = sum(await gather_or_cancel(ask(running), *sending))
        elapsed_s = time.perf_counter() - began
    p50, p95 = (1000 * float(value) for value in np.percentile(seconds, [50, 95]))
    return {"queries": len(seconds), "p50_ms": p50, "p95_ms": p95, "pages_per_s": pages / elapsed_s}


def _metered(context: Context) -> tuple[MeteredModel[Any, Any, Any], int]:
    """The model, and the cost of its largest page."""
    sample = next(mixed_pages(context.is_small))
    return MeteredModel(context.model), context.model.prepare(sample).cost


@asynccontextmanager
async def _batcher(context: Context, model: Any, page_cost: int) -> AsyncIterator[Batcher[Any, Any, Any]]:
    running = Batcher(model, batch_cost=context.batch_cost(page_cost))
    try:
        yield running
    finally:
        await running.close()


async def _worked(context: Context, deadline: Deadline) -> dict[str, Any]:
    metered, cost = _metered(context)
    size = _FEW_PAGES if context.is_small else _PAGES_OF_DOCUMENT
    jobs = 1 if context.is_small else WorkerSettings().jobs_in_flight
    context.require_time(deadline, size * (1 + jobs))
    records, blobs, vectors = SinkRecords(), SinkBlobs(pdf(size)), SinkVectors()
    numbers, ready = itertools.count(), 0

    async def ingest(pipeline: Pipeline) -> None:
        key, value, headers = encode_job(records.add(next(numbers), size))
        await pipeline.run(Record(("report", 0), 0, key, value, tuple(headers)))
        if records.failed:
            raise WorkerFault(f"a document failed: {records.failed[0].error}")

    async def documents(pipeline: Pipeline) -> None:
        nonlocal ready
        while not deadline.is_past:
            await ingest(pipeline)
            ready += 1

    async with _batcher(context, metered, cost) as running:
        sizing = context.model.sizing
        embedder = VisualEmbedder(
            running, dim=context.model.dim, most_tokens=cost, sizing=sizing, fingerprint="report"
        )
        pipeline = _pipeline(embedder, records, blobs, vectors)
        await ingest(pipeline)  # starts the render children
        before_s, began = metered.busy_s, time.perf_counter()
        await gather_or_cancel(ingest(pipeline), *(documents(pipeline) for _ in range(jobs - 1)))
        seconds = time.perf_counter() - began
    pages, stored_pages = (ready + 1) * size, (ready + 2) * size
    return {
        "documents": ready + 1,
        "pages": pages,
        "pages_per_s": pages / seconds,
        "busy_share": (metered.busy_s - before_s) / seconds,
        "padding_share": metered.padding_share,
        "stored_bytes_a_page": blobs.written_bytes / stored_pages,
        "rows_a_page": vectors.rows / stored_pages,
    }


def _pipeline(embedder: VisualEmbedder, records: SinkRecords, blobs: SinkBlobs, vectors: SinkVectors) -> Pipeline:
    """A worker's, with the settings of the environment. The stores implement the calls of a first attempt alone."""
    render, stored, own = RenderSettings(), VectorSettings(), WorkerSettings()
    ledger, messages = cast(Any, records), cast(Any, SinkMessages())
    encoding = VectorEncoding(stored.index_pooling, stored.blob_precision)
    store = PageStore(ledger, cast(Any, blobs), cast(Any, vectors), encoding)
    return Pipeline(
        ledger=ledger,
        blobs=cast(Any, blobs),
        store=store,
        renderer=PdfRenderer(render, max_pages=_PAGES_OF_DOCUMENT),
        embedder=embedder,
        progress=messages,
        outcomes=OutcomePublisher(
            ledger=ledger,
            queue=messages,
            progress=messages,
            failures=FailureRun(own.failure_run_limit, on_limit=lambda cause: None),
            group="report",
            max_attempts=_ATTEMPTS,
            retry_delays_s=(1,),
        ),
        claims=Claims(ledger, store, "report", own.lease_s),
        max_attempts=_ATTEMPTS,
    )
