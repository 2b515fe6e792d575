"""Sections about the model alone: load, self-test, batches, and running out of memory."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import psutil
import structlog
import torch
from torch.utils.flop_counter import FlopCounterMode

from ingestion.model import Vectors
from workers.embedding.batching.batcher import Batcher
from workers.embedding.calibrate import measure_batches, recommend_batch
from workers.embedding.visual.loading import read_model
from workers.embedding.visual.selftest import verify_model
from workers.embedding_report.context import Context, Deadline
from workers.embedding_report.machine import synchronize
from workers.embedding_report.metering import MeteredModel
from workers.embedding_report.samples import A4_PX, page

log = structlog.get_logger(__name__)

_SPARE_PAGES: Final = 3
"""Pages that fit the memory which is left, about."""
_OVERFULL_PAGES: Final = 24


def load(context: Context, deadline: Deadline) -> dict[str, Any]:
    """Without the self-test. Bytes are those of the process on a CPU, and those that torch has reserved on a GPU."""
    context.memory.reset()
    before_bytes = _memory_bytes(context)
    started = time.perf_counter()
    context.loaded = read_model(context.settings)
    synchronize(context.device)
    network = context.model.network
    return {
        "seconds": time.perf_counter() - started,
        "bytes": _memory_bytes(context) - before_bytes,
        "parameters": sum(weight.numel() for weight in network.parameters()),
        "attention": network.config._attn_implementation,
    }


def self_test(context: Context, deadline: Deadline) -> dict[str, Any]:
    """Raises SelfTestFailed. The figures of the other sections hold all the same."""
    started = time.perf_counter()
    verify_model(context.model, context.loaded.precision)
    return {"seconds": time.perf_counter() - started}


def batches(context: Context, deadline: Deadline) -> dict[str, Any]:
    """Batches of A4 pages, twice as many pages each time, until one does not fit or the time is over."""
    model, sample = context.model, page(shape_px=_shape(context))
    prepared = model.prepare(sample)
    flops = _operations(context, prepared)
    sizes = [2**power for power in range(context.options.largest.bit_length())]
    measured = measure_batches(model, sample, sizes=sizes, repeats=context.options.repeats, memory=context.memory)
    context.measured = []
    for one in measured:
        context.measured.append(one)
        # The next size takes twice as long, and a GPU has settled by then.
        if deadline.left_s < 2 * (context.options.repeats + 1) * (one.seconds or 0.0):
            break
    best = recommend_batch(context.measured)
    return {
        "page_patches": prepared.cost,
        "page_operations": flops,
        "batches": [
            {**dataclasses.asdict(one), "pages_per_s": one.items_per_s, "fits": one.seconds is not None}
            for one in context.measured
        ],
        "recommended_patches": best.patches if best else None,
        "pages_per_s": max((one.items_per_s for one in context.measured), default=0.0),
    }


def out_of_memory(context: Context, deadline: Deadline) -> dict[str, Any]:
    """Pages in batches that do not fit the memory which is left; then the same pages with all of it."""
    model, sample = context.model, page(shape_px=_shape(context))
    cost = model.prepare(sample).cost
    context.require_time(deadline, 2 * _OVERFULL_PAGES)
    budget = _OVERFULL_PAGES * cost
    before, undisturbed_s, _ = _embedded(model, sample, context.batch_cost(cost), 1)
    with _little_memory(context, cost) as how:
        found, seconds, metered = _embedded(model, sample, budget, _OVERFULL_PAGES)
    _, again_s, _ = _embedded(model, sample, context.batch_cost(cost), _OVERFULL_PAGES)
    return {
        "how": how,
        "pages": len(found),
        "out_of_memory_errors": metered.out_of_memory,
        "budget_patches": budget,
        "largest_patches": metered.largest_cost,
        "batches": metered.batches,
        "seconds": seconds,
        "seconds_again_with_all_memory": again_s,
        "seconds_of_one_page_before": undisturbed_s,
        "largest_cosine_distance": max(_distance(before[0], vectors) for vectors in found),
        "is_recovered": len(found) == _OVERFULL_PAGES and metered.out_of_memory > 0,
    }


def _shape(context: Context) -> tuple[int, int]:
    return (A4_PX[0] // 5, A4_PX[1] // 5) if context.is_small else A4_PX


def _operations(context: Context, prepared: Any) -> int | None:
    """Floating-point operations of one page. None where torch cannot count them; the step's log says why."""
    try:
        with FlopCounterMode(display=False) as counter:
            context.model.forward([prepared])
    except Exception:  # kernels of other libraries raise what they like under a dispatch mode
        log.exception("operations cannot be counted")
        return None
    return int(counter.get_total_flops())


def _embedded(
    model: Any, sample: Any, budget: int, pages: int
) -> tuple[list[Vectors], float, MeteredModel[Any, Any, Any]]:
    """Vectors of `pages` equal pages, the seconds, and the batches."""
    metered = MeteredModel(model)

    async def run() -> list[Vectors]:
        batcher = Batcher(metered, batch_cost=budget, wait_ms=1000 if pages > 1 else 0)
        try:
            return await batcher.embed([sample] * pages)
        finally:
            await batcher.close()

    started = time.perf_counter()
    found = asyncio.run(run())
    return found, time.perf_counter() - started, metered


@contextmanager
def _little_memory(context: Context, cost: int) -> Iterator[str]:
    """Leave memory for a few pages only. Yields how."""
    if context.device.type == "cuda":
        with _ballast(context) as how:
            yield how
        return
    limit = _SPARE_PAGES * cost

    def refuse(_module: object, _args: object, kwargs: dict[str, Any]) -> None:
        if kwargs["input_ids"].numel() > limit:
            raise torch.OutOfMemoryError("simulated: a CPU's memory is not limited")

    hook = context.model.network.register_forward_pre_hook(refuse, with_kwargs=True)
    try:
        yield "simulated, because a CPU has no limit of its own"
    finally:
        hook.remove()


@contextmanager
def _ballast(context: Context) -> Iterator[str]:
    torch.cuda.empty_cache()
    free_bytes, _ = torch.cuda.mem_get_info(context.device)
    size = max(0, free_bytes - _bytes_of_pages(context))
    ballast = torch.empty(size, dtype=torch.uint8, device=context.device)
    try:
        yield f"{size / 1024**3:.1f} GiB of the device's memory are held by something else"
    finally:
        del ballast
        torch.cuda.empty_cache()


def _bytes_of_pages(context: Context) -> int:
    """What a batch of _SPARE_PAGES takes beside the weights, by the batches that were measured; else 2 GiB."""
    fitting = [one for one in context.measured if one.seconds]
    if len(fitting) < 2:
        return 2 * 1024**3
    first, last = fitting[0], fitting[-1]
    page_bytes = (last.memory_bytes - first.memory_bytes) // (last.items - first.items)
    first_bytes = first.memory_bytes - torch.cuda.memory_reserved(context.device)
    return max(0, first_bytes) + (_SPARE_PAGES - 1) * max(page_bytes, 64 * 1024**2)


def _memory_bytes(context: Context) -> int:
    if context.device.type == "cuda":
        return torch.cuda.memory_reserved(context.device)
    return int(psutil.Process().memory_info().rss)


def _distance(one: Vectors, other: Vectors) -> float:
    return float(1 - (one * other).sum(axis=1).min()) if one.shape == other.shape else float(np.inf)
