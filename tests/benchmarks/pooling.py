"""What does token pooling cost in quality, and in time?

    python -m tests.benchmarks.pooling MANUAL.pdf... [--every N]

Embeds each page's text layer with the local embedder, pools the pages' vectors, and scores every page with exact
MaxSim for each title of the manuals' outlines; the right answer is the page on which the title stands. No server is
needed.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pypdfium2

from ingestion.maxsim import maxsim
from ingestion.model import Vectors
from ingestion.vectors.pooling import pool
from tests.benchmarks.retrieval import TOP, outline
from workers.embedding.local.embedder import open_local

FACTORS = (1, 2, 3, 4)
COLQWEN_PAGE = (768, 128)


def texts_of(path: Path) -> list[str]:
    with pypdfium2.PdfDocument(path) as pdf:
        return [page.get_textpage().get_text_range() for page in pdf]


def ranks(queries: Sequence[Vectors], right: Sequence[int], pages: Sequence[Vectors]) -> np.ndarray:
    """Of each query's right page, from 0."""
    orders = [np.argsort(-maxsim(query, pages), kind="stable") for query in queries]
    return np.array([np.flatnonzero(order == page)[0] for order, page in zip(orders, right, strict=True)])


def quality(found: np.ndarray) -> tuple[float, float]:
    """recall@TOP and nDCG@TOP. With one right page a query, nDCG is 1 / log2(rank + 1), ranks from 1."""
    gains = np.where(found < TOP, 1 / np.log2(found + 2), 0)
    return float((found < TOP).mean()), float(gains.mean())


async def measure(paths: Sequence[Path], every: int) -> None:
    texts: list[str] = []
    titles: list[tuple[str, int]] = []
    for path in paths:
        first = len(texts)
        texts += texts_of(path)
        titles += [(title, first + number - 1) for title, number in outline(path, every)]
    async with open_local() as embedder:
        pages = await embedder.embed_documents(texts)
        queries = await embedder.embed_queries([title for title, _ in titles])
    right = [page for _, page in titles]
    print(f"{len(pages)} pages, {sum(map(len, pages))} vectors, {len(queries)} queries")
    print(f"| factor | vectors | recall@{TOP} | nDCG@{TOP} | nDCG retained |\n|---|---|---|---|---|")
    full = 0.0
    for factor in FACTORS:
        pooled = [pool(vectors, factor) for vectors in pages]
        recall, ndcg = quality(ranks(queries, right, pooled))
        full = full or ndcg
        print(f"| {factor} | {sum(map(len, pooled))} | {recall:.3f} | {ndcg:.3f} | {ndcg / full:.3f} |")


def time_a_page() -> None:
    drawn = np.random.default_rng(0).standard_normal(COLQWEN_PAGE).astype(np.float32)
    page = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    cpu_s, wall_s = [], []
    for _ in range(30):
        cpu, wall = time.process_time(), time.perf_counter()
        pool(page, 3)
        cpu_s.append(time.process_time() - cpu)
        wall_s.append(time.perf_counter() - wall)
    wall_ms, cpu_ms, least_ms = (1000 * s for s in (np.median(wall_s), np.median(cpu_s), min(wall_s)))
    print(f"a page of {COLQWEN_PAGE} takes {wall_ms:.1f} ms, {cpu_ms:.1f} ms of CPU; the fastest {least_ms:.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=1, help="use every n-th outline entry")
    parser.add_argument("manuals", type=Path, nargs="+")
    arguments = parser.parse_args()
    time_a_page()
    asyncio.run(measure(arguments.manuals, arguments.every))


if __name__ == "__main__":
    main()
