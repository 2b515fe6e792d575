"""How close does the batcher come to what the device allows, and how far is that from the obvious loop?

    python -m tests.benchmarks.embedder [--pages N] [--colqwen-pages N] [--checkpoint FOLDER]

The obvious loop prepares a window of pages, runs it as one batch, finishes it, and turns to the next. First with a
stand-in, whose forward sleeps as long as a GPU computes and whose prepare is real work of the CPU; then with ColQwen2
itself, of tiny random weights unless a checkpoint is given, against transformers' processor and model called that way.
Documents are fed as the pipeline feeds them. All ratios are of one run.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic

import numpy as np
from PIL import Image

from ingestion.concurrency.tasks import map_ordered
from ingestion.model import Page, Vectors
from workers.embedding.batching.batcher import Batcher
from workers.embedding.batching.stages import BatchedModel, ItemT, PreparedT, RawT

WINDOW_PAGES = 8
WINDOWS_IN_FLIGHT = 3
JOBS_IN_FLIGHT = 4
BATCH_PAGES = 8
A4, LETTER, SLIDE, SMALL = 752, 760, 592, 320
"""Costs of pages of some shapes, in patches and prompt tokens."""

FORWARD_S_PER_PATCH = 0.050 / 768
DIM = 128


@dataclass(frozen=True, slots=True)
class Sheet:
    """A page of the stand-in, prepared or not."""

    cost: int


class StandIn:
    """A BatchedModel with the times of a GPU and nothing of its results."""

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
        raise AssertionError("nothing is out of memory here")


@dataclass
class Metered(Generic[ItemT, PreparedT, RawT]):
    """A BatchedModel that notes what its device does."""

    model: BatchedModel[ItemT, PreparedT, RawT]
    busy_s: float = 0.0
    batches: int = 0
    wanted: int = 0
    computed: int = 0
    prepare_s: list[float] = field(default_factory=list)

    def prepare(self, item: ItemT) -> PreparedT:
        started = time.thread_time()
        prepared = self.model.prepare(item)
        self.prepare_s.append(time.thread_time() - started)
        return prepared

    def forward(self, batch: Sequence[PreparedT]) -> RawT:
        started = time.perf_counter()
        raw = self.model.forward(batch)
        self.busy_s += time.perf_counter() - started
        costs = [prepared.cost for prepared in batch]
        self.batches += 1
        self.wanted += sum(costs)
        self.computed += max(costs) * len(costs)
        return raw

    def finish(self, raw: RawT, batch: Sequence[PreparedT]) -> list[Vectors]:
        return self.model.finish(raw, batch)

    def on_out_of_memory(self) -> None:
        self.model.on_out_of_memory()

    def line(self, name: str, wall_s: float, pages: int) -> str:
        return (
            f"  {name:<14} {pages / wall_s:7.2f} pages/s   device busy {self.busy_s / wall_s:.3f}   "
            f"padding {1 - self.wanted / self.computed:.3f}   {self.batches} batches   "
            f"prepare {np.median(self.prepare_s) * 1000:.1f} ms of CPU a page"
        )


def one_long(pages: int) -> list[list[Sheet]]:
    return [[Sheet(A4)] * pages]


def long_and_fifty_short(pages: int) -> list[list[Sheet]]:
    """The long document first, and short ones of one to eight pages of one shape each."""
    draw = random.Random(1)
    shapes = (A4, A4, A4, LETTER, LETTER, SLIDE, SLIDE, SMALL)
    return one_long(pages) + [[Sheet(draw.choice(shapes))] * draw.randint(1, 8) for _ in range(50)]


async def as_the_pipeline(batcher: Batcher[ItemT, PreparedT, RawT], documents: Sequence[Sequence[ItemT]]) -> float:
    """Seconds. Several documents side by side, of each several windows."""
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
    """Seconds. What is short of a window is filled up with pages of the next document."""
    pages = [page for document in documents for page in document]
    started = time.perf_counter()
    for start in range(0, len(pages), BATCH_PAGES):
        embed(pages[start : start + BATCH_PAGES])
    return time.perf_counter() - started


async def batched(
    model: BatchedModel[ItemT, PreparedT, RawT], documents: Sequence[Sequence[ItemT]], batch_cost: int
) -> tuple[float, Metered[ItemT, PreparedT, RawT]]:
    metered = Metered(model)
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
    print(metered.line("batcher", wall_s, pages))
    obvious = Metered(StandIn())

    def embed(batch: Sequence[Sheet]) -> list[Vectors]:
        prepared = [obvious.prepare(sheet) for sheet in batch]
        return obvious.finish(obvious.forward(prepared), prepared)

    obvious_s = await asyncio.to_thread(one_after_another, embed, documents)
    print(obvious.line("obvious loop", obvious_s, pages))
    print(f"  of what the forward allows: batcher {allowed_s / wall_s:.3f}, obvious loop {allowed_s / obvious_s:.3f}")
    print(f"  batcher / obvious loop: {obvious_s / wall_s:.2f}")


async def with_colqwen(folder: Path, precision: str, long_pages: int) -> None:
    """A4, letter and landscape pages at 100 DPI, in a long document and short ones."""
    import torch

    from ingestion.settings import EmbedderSettings
    from tests.support.tiny_colqwen import page_pixels
    from workers.embedding.visual.loading import load_model

    settings = EmbedderSettings(embedder="colqwen", colqwen_model=str(folder), colqwen_precision=precision)
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
    print(metered.line("batcher", wall_s, pages))
    obvious_s = await asyncio.to_thread(one_after_another, published, documents)
    print(f"  {'obvious loop':<14} {pages / obvious_s:7.2f} pages/s")
    print(f"  batcher / obvious loop: {obvious_s / wall_s:.2f}")
    if torch.cuda.is_available():
        print(f"  peak memory {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB")


def _published(network: Any, folder: Path) -> Callable[[Sequence[Page]], list[Vectors]]:
    """The processor and the model as their documentation calls them."""
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
    from tests.support.tiny_colqwen import make_checkpoint

    with tempfile.TemporaryDirectory(prefix="tiny-colqwen-") as folder:
        await with_colqwen(make_checkpoint(Path(folder)), precision, colqwen_pages)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pages", type=int, default=160, help="pages of the stand-in's long document")
    parser.add_argument("--colqwen-pages", type=int, default=24, help="pages of ColQwen2's long document")
    parser.add_argument("--checkpoint", type=Path, help="folder of a ColQwen2; a tiny random one is made otherwise")
    parser.add_argument("--precision", choices=["nf4", "bf16", "fp32"], default="fp32", help="of the checkpoint")
    arguments = parser.parse_args()
    asyncio.run(measure(arguments.pages, arguments.colqwen_pages, arguments.checkpoint, arguments.precision))


if __name__ == "__main__":
    main()
