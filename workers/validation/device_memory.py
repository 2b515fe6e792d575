"""A device whose memory is full, and the embedder's recovery."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from ingestion.model import DocumentState
from workers.bench.scrape import metrics_urls, scrape_all, total
from workers.validation.context import Context
from workers.validation.finding import Finding, judged, skipped

_PAGES: Final = 32
_FILLED_S: Final = 60.0
_OUT_OF_MEMORY: Final = "embedder_out_of_memory_total"
_FILL: Final = """
import sys, torch
free, _ = torch.cuda.mem_get_info()
held = torch.empty(max(0, free - 64 * 1024**2), dtype=torch.uint8, device="cuda")
print("full", flush=True)
sys.stdin.read()
"""
"""Takes all memory of the first GPU but 64 MiB, and holds it until its standard input is closed."""


async def model_out_of_memory(context: Context) -> Finding:
    """Fill the GPU of this machine while documents are embedded: batches get smaller, and documents become ready."""
    urls: Sequence[str] = [*context.metrics, *metrics_urls(context.read_stack())]
    readings = await scrape_all(context.http, urls)
    if not total(readings, "gpu_memory_usage_bytes"):
        return skipped(
            "no known process has a model on a GPU; on a CPU the system ends a process that takes too much memory"
        )
    if shutil.which("nvidia-smi") is None:
        return skipped("the GPU is in another machine; run the command there")
    if not context.is_destructive:
        return skipped("filling a GPU disturbs all processes on it; --destructive does so")
    before = total(readings, _OUT_OF_MEMORY) or 0.0
    async with _full_device():
        view = await context.ingest("out-of-memory", _PAGES)
    after = total(await scrape_all(context.http, urls), _OUT_OF_MEMORY) or 0.0
    problems = [] if view.state is DocumentState.READY else [f"the document became {view.state.value}"]
    if after <= before:
        return skipped("the memory that the model holds was enough: no batch ran out of it", state=view.state.value)
    return judged(problems, f"{after - before:g} batches did not fit, and the document became ready")


@asynccontextmanager
async def _full_device() -> AsyncIterator[None]:
    """Raises TimeoutError where the device is not full in time."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _FILL, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(_FILLED_S):
            await process.stdout.readline()
        yield
    finally:
        process.stdin.close()
        await process.wait()
