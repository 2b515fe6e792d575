"""Compare the batcher's throughput with the device's limit and with a simple loop.

    python -m tests.benchmarks.embedder [--pages N] [--colqwen-pages N] [--checkpoint FOLDER]

The simple loop prepares a window of pages, runs it as one batch, finishes it, and goes on with the next window. The
first part uses a stand-in model: its forward sleeps as long as a GPU computes, its prepare is CPU work. The other
part uses ColQwen2 (tiny random weights unless a checkpoint is given) and, for the loop, transformers' processor and
model. Documents arrive like from the pipeline. All ratios come from one run.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ingestion.concurrency.tasks import map_ordered
from ingestion.model import Page, Vectors
from workers.embedding.batching.batcher import Batcher
from workers.embedding.batching.stages import BatchedModel, ItemT, PreparedT, RawT
from workers.embedding_report.metering import MeteredModel

WINDOW_PAGES = 8
WINDOWS_IN_FLIGHT = 3
JOBS_IN_FLIGHT = 4
BATCH_PAGES = 8
A4, LETTER, SLIDE, SMALL = 752, 760, 592, 320
"""Costs of pages of several shapes, in positions: patches and prompt tokens."""

FORWARD_S_PER_PATCH = 0.050 / 768
DIM = 128


@dataclass(frozen=True, slots=True)
class Sheet:
    """A page of the stand-in model; its own prepared form."""

    cost: int


class StandIn:
    """A BatchedModel with the timing of a GPU and empty results."""

    def __init__(self) -> None:
        drawn = np.random.default_rng(0).integers(0, 255, (1170, 827, 3), np.uint8)
        self._picture = Image.fromarray(drawn)

    def prepare(self, item: Sheet) -> Sheet:
        self._picture.resize((644, 896), Image.Resampling.BILINEAR)  # 5 to 10 ms
        return item

    def forward(self, batch: Sequence[Sheet]) -> Sequence[Sheet]:
        time.sleep(FORWARD_S_PER_PATCH * max(sheet.cost for sheet in batch) * len(batch))
        return batch

    def finish(self, raw: Sequence[Sheet], batch: Sequence[Sheet]) -> list[Vectors]:
        return [np.ones((sheet.cost, DIM), np.float32) / np.float32(DIM**0.5) for sheet in raw]

    def on_out_of_memory(self) -> None:
        raise AssertionError("the stand-in has no memory limit")


def line(metered: MeteredModel[Any, Any, Any], name: str, wall_s: float, pages: int) -> str:
    return (
        f"  {name:<14} {pages / wall_s:7.2f} pages/s   device busy {metered.busy_s / wall_s:.3f}   "
        f"padding {metered.padding_share:.3f}   {metered.batches} batches   "
        f"prepare {metered.prepare_cpu_ms:.1f} ms of CPU a page"
    )


def one_long(pages: int) -> list[list[Sheet]]:
    return [[Sheet(A4)] * pages]


def long_and_fifty_short(pages: int) -> list[list[Sheet]]:
    """One long document, then short ones of one to eight pages, each of one shape."""
    draw = random.Random(1)
    shapes = (A4, A4, A4, LETTER, LETTER, SLIDE, SLIDE, SMALL)
    return one_long(pages) + [[Sheet(draw.choice(shapes))] * draw.randint(1, 8) for _ in range(50)]


async def as_the_pipeline(batcher: Batcher[ItemT, PreparedT, RawT], documents: Sequence[Sequence[ItemT]]) -> float:
    """Seconds for several documents in parallel, each with several windows in progress."""
    jobs = asyncio.Semaphore(JOBS_IN_FLIGHT)

    async def ingest(document: Sequence[ItemT]) -> None:
        async with jobs:
            async for _ in map_ordered(batcher.embed, windows(document), width=WINDOWS_IN_FLIGHT):
                pass

    started = time.perf_counter()
    await asyncio.gather(*map(ingest, documents))
    return time.perf_counter() - started


async def windows(document: Sequence[ItemT]) -> AsyncIterator[Sequence[ItemT]]:
    for start in range(0, len(document), WINDOW_PAGES):
        yield document[start : start + WINDOW_PAGES]


def one_after_another(embed: Callable[[Sequence[ItemT]], object], documents: Sequence[Sequence[ItemT]]) -> float:
    """Seconds of the simple loop. Pages of the next document fill up a short window."""
    pages = [page for document in documents for page in document]
    started = time.perf_counter()
    for start in range(0, len(pages), BATCH_PAGES):
        embed(pages[start : start + BATCH_PAGES])
    return time.perf_counter() - started


async def batched(
    model: BatchedModel[ItemT, PreparedT, RawT], documents: Sequence[Sequence[ItemT]], batch_cost: int
) -> tuple[float, MeteredModel[ItemT, PreparedT, RawT]]:
    metered = MeteredModel(model)
    batcher = Batcher(metered, batch_cost=batch_cost)
    try:
        return await as_the_pipeline(batcher, documents), metered
    finally:
        await batcher.close()


async def with_the_stand_in(name: str, documents: Sequence[Sequence[Sheet]]) -> None:
    pages = sum(map(len, documents))
    allowed_s = FORWARD_S_PER_PATCH * sum(sheet.cost for document in documents for sheet in document)
    print(f"stand-in, {name}: {pages} pages; the forward alone allows {pages / allowed_s:.2f} pages/s")
    wall_s, metered = await batched(StandIn(), documents, BATCH_PAGES * LETTER)
    print(line(metered, "batcher", wall_s, pages))
    obvious = MeteredModel(StandIn())

    def embed(batch: Sequence[Sheet]) -> list[Vectors]:
        prepared = [obvious.prepare(sheet) for sheet in batch]
        return obvious.finish(obvious.forward(prepared), prepared)

    simple_s = await asyncio.to_thread(one_after_another, embed, documents)
    print(line(obvious, "simple loop", simple_s, pages))
    print(f"  of what the forward allows: batcher {allowed_s / wall_s:.3f}, simple loop {allowed_s / simple_s:.3f}")
    print(f"  batcher / simple loop: {simple_s / wall_s:.2f}")


async def with_colqwen(folder: Path, precision: str, long_pages: int) -> None:
    """A4, letter and landscape pages at 100 DPI, in a long document and short ones."""
    import torch

    from ingestion.settings import EmbedderSettings
    from tests.support.tiny_checkpoints import page_pixels
    from workers.embedding.visual.loading import load_model

    settings = EmbedderSettings(embedder="visual", visual_model=str(folder), visual_precision=precision)
    model = load_model(settings).model
    draw = random.Random(2)
    shapes = [(1170, 827), (1100, 850), (827, 1170)]
    pictures = {shape: page_pixels(*shape) for shape in shapes}

    def page(number: int, shape: tuple[int, int]) -> Page:
        return Page(number, shape[1], shape[0], b"", "", pictures[shape])

    documents = [[page(number, shapes[0]) for number in range(1, long_pages + 1)]]
    for _ in range(10):
        shape = draw.choice(shapes)
        documents.append([page(number, shape) for number in range(1, draw.randint(2, 6))])
    pages = sum(map(len, documents))
    published = _published(model.network, folder)
    one_after_another(published, [documents[0][:BATCH_PAGES]])  # the first call is slower
    print(f"ColQwen2 from {folder.name}, {precision}, {next(model.network.parameters()).device}: {pages} pages")
    wall_s, metered = await batched(model, documents, BATCH_PAGES * 800)
    print(line(metered, "batcher", wall_s, pages))
    simple_s = await asyncio.to_thread(one_after_another, published, documents)
    print(f"  {'simple loop':<14} {pages / simple_s:7.2f} pages/s")
    print(f"  batcher / simple loop: {simple_s / wall_s:.2f}")
    if torch.cuda.is_available():
        print(f"  peak memory {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB")


def _published(network: Any, folder: Path) -> Callable[[Sequence[Page]], list[Vectors]]:
    """transformers' processor and model, called like in their documentation."""
    import torch
    from transformers import ColQwen2Processor

    processor = ColQwen2Processor.from_pretrained(folder)

    @torch.inference_mode()
    def embed(pages: Sequence[Page]) -> list[Vectors]:
        images = [Image.fromarray(np.asarray(page.pixels)) for page in pages]
        inputs = processor(images=images, return_tensors="pt").to(network.device)
        found = network(**inputs).embeddings.float().cpu()
        mask = inputs["attention_mask"].bool().cpu()
        return [vectors[kept].numpy() for vectors, kept in zip(found, mask, strict=True)]

    return embed


async def measure(pages: int, colqwen_pages: int, checkpoint: Path | None, precision: str) -> None:
    await with_the_stand_in("one long document", one_long(pages))
    await with_the_stand_in("one long document and fifty short ones", long_and_fifty_short(pages))
    if checkpoint is not None:
        await with_colqwen(checkpoint, precision, colqwen_pages)
        return
    from tests.support.tiny_checkpoints import make_checkpoint

    with tempfile.TemporaryDirectory(prefix="tiny-colqwen-") as folder:
        await with_colqwen(make_checkpoint(Path(folder)), precision, colqwen_pages)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pages", type=int, default=160, help="pages of the stand-in's long document")
    parser.add_argument("--colqwen-pages", type=int, default=24, help="pages of ColQwen2's long document")
    parser.add_argument("--checkpoint", type=Path, help="folder of a ColQwen2 checkpoint; default: a tiny random one")
    parser.add_argument("--precision", choices=["nf4", "bf16", "fp32"], default="fp32", help="of the checkpoint")
    arguments = parser.parse_args()
    asyncio.run(measure(arguments.pages, arguments.colqwen_pages, arguments.checkpoint, arguments.precision))


if __name__ == "__main__":
    main()
