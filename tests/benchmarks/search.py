"""How fast is search, and does it find what exact MaxSim finds? Beside it the way that reads rows back.

    python -m tests.benchmarks.search [--pages 1024] [--index-pooling 1] --ingest OTHER.pdf MANUAL.pdf...

fills a collection with pages of the manuals, as `tests.benchmarks.manuals` embeds them, on servers of its own or those
of $PAGEMILL_TEST_STACK, and asks for titles of the manuals' outlines; the vectors of pages and titles are known
beforehand, so that no figure contains an embedder. The row-reading way asks the same index with the same query, and
then, for each page that the answer names, at most as many as the search reranks, reads all rows back from Milvus, one
query a page, and scores one page after another. At last CLIENTS clients ask all the time, while another process
writes pages of OTHER.pdf into the collection. The query cache is off, except for the line that says so.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import psutil

from ingestion import metrics
from ingestion.maxsim import maxsim
from ingestion.search import Searcher, approximate_scores
from tests.benchmarks.filling import Filler, KnownVectors
from tests.benchmarks.manuals import ManualPage, Question, load_pages, load_questions
from tests.benchmarks.rig import Bench, cpu_s, open_bench
from workers.stack.server_specs import MilvusKind

TOP: Final = 10
CLIENTS: Final = 20
PARTS: Final = ("collection", "query_cache", "embed", "ann", "records", "blobs", "maxsim", "texts")


@dataclass(frozen=True, slots=True)
class Shelf:
    """A filled collection and what is asked of it."""

    bench: Bench
    questions: Sequence[Question]
    placed: Mapping[int, ManualPage]
    """By page key."""

    def searcher(self, *, cached: bool = False) -> Searcher:
        services = self.bench.services
        return Searcher(
            embedder=KnownVectors.of(self.questions),
            vectors=services.vectors,
            documents=services.documents,
            blobs=services.blobs,
            settings=self.bench.settings.search,
            cache=services.query_cache if cached else None,
        )

    async def row_reading(self, question: Question) -> list[int]:
        """The page keys of the best pages."""
        vectors, settings = self.bench.services.vectors, self.bench.settings.search
        neighbours = await vectors.search(self.bench.collection, question.vectors, settings.search_ann_limit)
        keys = approximate_scores(neighbours)[: settings.search_candidates]
        read = await asyncio.gather(*(vectors.read_pages(self.bench.collection, range(k, k + 1)) for k in keys))
        scores = [
            float((pages[key] @ question.vectors.T).max(axis=0).sum()) for key, pages in zip(keys, read, strict=True)
        ]
        return [keys[i] for i in np.argsort(-np.array(scores), kind="stable")[:TOP]]


async def timed(
    shelf: Shelf, searcher: Searcher, questions: Sequence[Question]
) -> tuple[list[float], list[list[int]]]:
    """Seconds and page keys of the best pages, of one question after another."""
    seconds, found = [], []
    for question in questions:
        began = time.perf_counter()
        hits = await searcher.search(shelf.bench.collection, question.text, TOP)
        seconds.append(time.perf_counter() - began)
        found.append([shelf_key(shelf, hit.document_id, hit.page) for hit in hits])
    return seconds, found


def shelf_key(shelf: Shelf, document_id: str, page: int) -> int:
    """The page key of a hit: a document's id says with which page of its manual it begins."""
    manual, _, first = document_id.rpartition("-")
    number = int(first) + page - 1
    return next(key for key, known in shelf.placed.items() if (known.manual, known.page_number) == (manual, number))


def recall(shelf: Shelf, questions: Sequence[Question], found: Sequence[Sequence[int]]) -> float:
    """Of exact MaxSim's first TOP pages, the share that was found."""
    keys, pages = list(shelf.placed), [page.vectors for page in shelf.placed.values()]
    shares = []
    for question, answer in zip(questions, found, strict=True):
        scores = maxsim(question.vectors, pages)
        best = {keys[i] for i in np.argsort(-scores, kind="stable")[:TOP]}
        shares.append(len(best & set(answer)) / len(best))
    return float(np.mean(shares))


async def concurrent(shelf: Shelf, searcher: Searcher, seconds: float) -> list[float]:
    """The seconds of each search, of CLIENTS clients that ask for so long."""
    taken: list[float] = []
    questions = itertools.cycle(shelf.questions)
    until = time.perf_counter() + seconds

    async def client() -> None:
        while (began := time.perf_counter()) < until:
            await searcher.search(shelf.bench.collection, next(questions).text, TOP)
            taken.append(time.perf_counter() - began)

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return taken


@contextmanager
def ingesting(bench: Bench, index_pooling: int, paths: Sequence[Path]) -> Iterator[Path]:
    """An ingest in a process of its own; the file has a line for each document."""
    lines = bench.folder / "ingested"
    argv = [sys.executable, "-m", "tests.benchmarks.filling", bench.collection, str(index_pooling), *map(str, paths)]
    with lines.open("wb") as output:
        process = subprocess.Popen(argv, stdout=output, env={**os.environ, **bench.environment})
        try:
            while not lines.stat().st_size and process.poll() is None:
                time.sleep(0.1)
            yield lines
        finally:
            process.kill()
            process.wait()


def stage_s() -> dict[str, tuple[float, float]]:
    """Seconds and calls of each part of a search so far."""
    samples = {(s.name, s.labels.get("part")): s.value for metric in metrics.SEARCH.collect() for s in metric.samples}
    name = "search_duration_seconds"
    return {part: (samples.get((f"{name}_sum", part), 0), samples.get((f"{name}_count", part), 0)) for part in PARTS}


def show_stages(before: Mapping[str, tuple[float, float]]) -> None:
    now = stage_s()
    mean_ms = {
        part: (now[part][0] - before[part][0]) / (now[part][1] - before[part][1]) * 1000
        for part in PARTS
        if now[part][1] > before[part][1]
    }
    print("  mean ms:", ", ".join(f"{part} {ms:.1f}" for part, ms in mean_ms.items()))


def show(name: str, seconds: Sequence[float]) -> float:
    """Returns the p50 in milliseconds."""
    p50, p95 = np.percentile(seconds, 50) * 1000, np.percentile(seconds, 95) * 1000
    print(
        f"{name}: p50 {p50:.0f} ms, p95 {p95:.0f} ms, p95 / p50 {p95 / p50:.2f} ({len(seconds)} searches)", flush=True
    )
    return float(p50)


async def measure_alone(shelf: Shelf, row_reads: int) -> None:
    questions = shelf.questions
    began = time.perf_counter()
    for question in questions[:row_reads]:
        await shelf.row_reading(question)
    reading_s = (time.perf_counter() - began) / row_reads
    print(f"row-reading way: mean {reading_s * 1000:.0f} ms ({row_reads} searches)", flush=True)
    searcher = shelf.searcher()
    cold_s, found = await timed(shelf, searcher, questions)
    show("search, pages from the object store at first", cold_s)
    before = stage_s()
    warm_s, _ = await timed(shelf, searcher, questions)
    p50_ms = show("search", warm_s)
    show_stages(before)
    print(f"  of the row-reading way's time: {p50_ms / 1000 / reading_s:.4f}")
    print(f"  recall@{TOP} of exact MaxSim: {recall(shelf, questions, found):.4f}")
    cached = shelf.searcher(cached=True)
    _, computed = await timed(shelf, cached, questions)
    from_cache_s, from_cache = await timed(shelf, cached, questions)
    show("search, answers from the cache", from_cache_s)
    assert from_cache == computed


async def measure_together(shelf: Shelf, index_pooling: int, paths: Sequence[Path], seconds: float) -> None:
    searcher = shelf.searcher()
    await concurrent(shelf, searcher, seconds / 4)
    before = stage_s()
    show(f"{CLIENTS} clients", await concurrent(shelf, searcher, seconds))
    show_stages(before)
    with ingesting(shelf.bench, index_pooling, paths) as lines:
        documents, before, cpu = len(lines.read_bytes().splitlines()), stage_s(), milvus_cpu_s(shelf.bench)
        show(f"{CLIENTS} clients during an ingest", await concurrent(shelf, searcher, seconds))
        show_stages(before)
        pages = sum(map(int, lines.read_bytes().splitlines()[documents:]))
        used_s = milvus_cpu_s(shelf.bench) - cpu
        print(f"  pages ingested meanwhile: {pages / seconds:.1f} a second; Milvus used {used_s / seconds:.2f} cores")


def milvus_cpu_s(bench: Bench) -> float:
    return cpu_s(psutil.Process(bench.server_pids["milvus"]))


async def measure(arguments: argparse.Namespace) -> None:
    pages = load_pages(arguments.manuals, most=arguments.pages)
    there = {(page.manual, page.page_number) for page in pages}
    questions = [q for q in load_questions(arguments.manuals) if (q.manual, q.page_number) in there]
    questions = questions[:: max(1, len(questions) // arguments.questions)]
    async with open_bench({}, arguments.milvus) as bench:
        began = time.perf_counter()
        placed = await Filler(bench.services, bench.collection, arguments.index_pooling).fill(pages)
        rows = await bench.services.vectors.count(bench.collection)
        filled_s = time.perf_counter() - began
        print(f"{len(pages)} pages, {rows} rows, {len(questions)} questions, filled in {filled_s:.0f} s")
        shelf = Shelf(bench, questions, placed)
        await measure_alone(shelf, arguments.row_reads)
        await measure_together(shelf, arguments.index_pooling, arguments.ingest, arguments.seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pages", type=int, default=1024, help="of the collection")
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--row-reads", type=int, default=3, help="searches the row-reading way")
    parser.add_argument("--index-pooling", type=int, default=1)
    parser.add_argument("--milvus", type=MilvusKind, choices=list(MilvusKind), default=MilvusKind.LITE)
    parser.add_argument("--seconds", type=float, default=60, help="of each run with many clients")
    parser.add_argument(
        "--ingest", type=Path, action="append", required=True, help="a manual that is written meanwhile"
    )
    parser.add_argument("manuals", type=Path, nargs="+")
    asyncio.run(measure(parser.parse_args()))


if __name__ == "__main__":
    main()
