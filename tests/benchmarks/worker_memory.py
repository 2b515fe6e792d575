"""Find what grows with the number of pages in a worker: one process renders and embeds, without servers.

    python -m tests.benchmarks.worker_memory --pages 50 --pages 1200 [--embedder none] [--dpi 150]

Each document is measured in a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import multiprocessing
import random
import resource
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Final

import psutil

from ingestion.concurrency.tasks import map_ordered
from ingestion.model import Page
from ingestion.ports import Embedder
from ingestion.settings import RenderSettings
from ingestion.vectors.encoding import VectorEncoding
from tests.support.pdfs import make_pdf, text_page
from workers.rendering.renderer import PdfRenderer
from workers.runtime.malloc import configure_malloc

_WORDS: Final = 300
_WINDOWS_IN_EMBEDDER: Final = 3
_MIB: Final = 1024**2


def document(pages: int) -> bytes:
    """Text whose words rarely repeat between pages."""
    chance = random.Random(1)
    letters = "etaoinshrdlu"
    return make_pdf(
        [
            text_page(" ".join("".join(chance.choices(letters, k=chance.randint(2, 9))) for _ in range(_WORDS)))
            for _ in range(pages)
        ]
    )


@asynccontextmanager
async def _embedder(name: str) -> AsyncIterator[Embedder | None]:
    if name == "none":
        yield None
        return
    from workers.embedding.local.embedder import open_local

    async with open_local() as embedder:
        yield embedder


async def grow(pages: int, embedder: str, dpi: int) -> None:
    configure_malloc()
    encoding = VectorEncoding()
    process = psutil.Process()
    settings = RenderSettings(dpi_policy="fixed", fixed_dpi=dpi)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "document.pdf"
        path.write_bytes(document(pages))
        renderer = PdfRenderer(settings, max_pages=10_000)
        async with _embedder(embedder) as embeds:

            async def embedded(window: list[Page]) -> int:
                if embeds is not None:
                    for vectors in await embeds.embed_pages(window):
                        encoding.blob(vectors)
                return window[-1].page_number

            source = await renderer.open(path, pixels=embeds is not None and embeds.wants_pixels)
            began = process.memory_info().rss
            children = 0
            step = max(1, pages // 8)
            due = step
            async with aclosing(map_ordered(embedded, source.windows(1), width=_WINDOWS_IN_EMBEDDER)) as windows:
                async for done in windows:
                    children = max(children, sum(c.memory_info().rss for c in process.children(recursive=True)))
                    if done >= due or done == pages:
                        rss = process.memory_info().rss
                        objects = len(gc.get_objects())
                        print(
                            f"{pages:6d} pages, after {done:6d}: {rss / _MIB:6.0f} MiB (began with "
                            f"{began / _MIB:.0f}), children {children / _MIB:.0f} MiB, {objects} objects",
                            flush=True,
                        )
                        due = done + step
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"{pages:6d} pages: peak {peak / _MIB:.0f} MiB", flush=True)


def _run(pages: int, embedder: str, dpi: int) -> None:
    asyncio.run(grow(pages, embedder, dpi))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, action="append", required=True)
    parser.add_argument("--embedder", choices=["local", "none"], default="local")
    parser.add_argument("--dpi", type=int, default=150)
    chosen = parser.parse_args(arguments)
    context = multiprocessing.get_context("spawn")
    for pages in chosen.pages:
        process = context.Process(target=_run, args=(pages, chosen.embedder, chosen.dpi))
        process.start()
        process.join()


if __name__ == "__main__":
    main()
