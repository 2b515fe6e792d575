"""What int8 costs the local embedder in quality, and what it saves: recall@5 and nDCG@5 beside fp32, CPU time, cosine.

    python -m tests.benchmarks.precision MANUAL.pdf...

Queries are the titles of the manuals' outlines; the right answer is the page that a title stands on. All pages are
scored by exact MaxSim. Needs about 3 MB of memory for a page, and 0.2 CPU seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np

from ingestion.model import Vectors
from tests.benchmarks.pooling import TOP, quality, texts_of
from tests.benchmarks.retrieval import outline
from workers.embedding.local.embedder import open_local
from workers.embedding.local.graph import Precision


@dataclass(frozen=True, slots=True)
class Embedded:
    pages: list[Vectors]
    queries: list[Vectors]
    cpu_s: float


async def embed(precision: Precision, texts: Sequence[str], titles: Sequence[str]) -> Embedded:
    async with open_local(threads=1, precision=precision) as embedder:
        started_s = time.process_time()
        pages = await embedder.embed_documents(texts)
        cpu_s = time.process_time() - started_s
        return Embedded(pages, await embedder.embed_queries(titles), cpu_s)


def ranks(embedded: Embedded, right: Sequence[int]) -> np.ndarray:
    """The rank of each query's right page, from 0, by exact MaxSim."""
    starts = np.cumsum([0] + [len(page) for page in embedded.pages[:-1]])
    stacked = np.concatenate(embedded.pages)  # (all tokens, dim)
    found = []
    for query, page in zip(embedded.queries, right, strict=True):
        scores = np.maximum.reduceat(stacked @ query.T, starts, axis=0).sum(axis=1)
        found.append(np.flatnonzero(np.argsort(-scores, kind="stable") == page)[0])
    return np.array(found)


def measure(paths: Sequence[Path]) -> None:
    texts: list[str] = []
    right_of: dict[str, int] = {}
    for path in paths:
        first = len(texts)
        texts += texts_of(path)
        right_of |= {title: first + number - 1 for title, number in outline(path, every=1)}
    with_text = [number for number, text in enumerate(texts) if text.strip()]
    place = {number: index for index, number in enumerate(with_text)}
    titles = [title for title, page in right_of.items() if page in place]
    right = [place[right_of[title]] for title in titles]
    kept = [texts[number] for number in with_text]
    print(f"{len(kept)} pages, {len(titles)} queries")
    print(f"| | recall@{TOP} | nDCG@{TOP} | CPU s a page | mean, least cosine |", flush=True)
    exact: np.ndarray | None = None
    for precision in get_args(Precision):
        embedded = asyncio.run(embed(precision, kept, titles))
        recall, ndcg = quality(ranks(embedded, right))
        rows = np.concatenate(embedded.pages)
        exact = rows if exact is None else exact
        cosines = np.einsum("ij,ij->i", rows, exact)
        print(
            f"| {precision} | {recall:.4f} | {ndcg:.4f} | {embedded.cpu_s / len(kept):.3f} "
            f"| {cosines.mean():.5f}, {cosines.min():.4f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manuals", type=Path, nargs="+")
    measure(parser.parse_args().manuals)


if __name__ == "__main__":
    main()
