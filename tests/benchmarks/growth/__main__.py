"""How does search change while one collection grows?

    python -m tests.benchmarks.growth --sizes 1024,4096,9216 [--milvus server] [--json FILE] MANUAL.pdf...

fills one collection with pages of the manuals, on servers of its own or those of $PAGEMILL_TEST_STACK, and measures at
each size, in a searching process of its own: one client that asks titles of the manuals' outlines one after another,
then CLIENTS clients for some seconds. The vectors of pages and titles come from the files that
`tests.benchmarks.manuals` has made, so that no figure contains an embedder. The query cache is off. docs/benchmarks.md
says what the columns mean.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import psutil
from pymilvus import MilvusClient

from tests.benchmarks.filling import Filler, KnownVectors, Place
from tests.benchmarks.growth.clients import SearchProcess, many_clients, search_process
from tests.benchmarks.growth.corpus import Corpus, PageName
from tests.benchmarks.growth.exact import ExactScores
from tests.benchmarks.growth.measure import STABLE_S, TOP, Asked, Plan, figures_of_load, measure, settle
from tests.benchmarks.growth.replica import effort_option, write_questions
from tests.benchmarks.growth.report import save_plot, table, write_json
from tests.benchmarks.manuals import DIM
from tests.benchmarks.rig import Bench, open_bench
from tests.conftest import clean_environment
from workers.bench.plot import require_matplotlib
from workers.stack.server_specs import MilvusKind

CLIENTS: Final = 20


class Growth:
    """One collection that grows, and its figures at each size."""

    def __init__(self, bench: Bench, corpus: Corpus, arguments: argparse.Namespace) -> None:
        self._bench = bench
        self._corpus = corpus
        self._arguments = arguments
        pooling = arguments.index_pooling or bench.settings.vectors.index_pooling
        self._pooling: int = pooling
        model = KnownVectors({}, corpus.fingerprint, corpus.dim)
        self._filler = Filler(bench.services, bench.collection, pooling, model)
        self._questions = {size: corpus.questions(size, arguments.questions) for size in arguments.sizes}
        everything = {question.text: question for of_size in self._questions.values() for question in of_size}
        self._exact = ExactScores(list(everything.values()))
        self._placed: dict[Place, PageName] = {}
        self._milvus = psutil.Process(bench.server_pids["milvus"])

    async def grow_to(self, size: int) -> dict[str, Any]:
        """Fill up to `size` pages and measure."""
        filled = await self._fill(size)
        if self._arguments.flush:
            await asyncio.to_thread(_flush, self._bench)
        settled_s = await settle(self._milvus, self._arguments.settle_s)
        rows = await self._bench.services.vectors.count(self._bench.collection)
        asked = Asked(self._questions[size], self._placed, self._exact)
        await self._step(f"{size} pages are filled")
        async with self._searching(size) as process:
            plan = Plan(self._arguments.rounds, CLIENTS, self._arguments.seconds, self._arguments.warm_up_s)
            measured = await measure(process, self._milvus, asked, plan)
            if self._arguments.beside_ingest and size == self._arguments.sizes[-1]:
                measured.update(await self._beside_ingest(process, asked.queries))
        await self._step(f"{size} pages are measured")
        return {
            "pages": size,
            "rows": rows,
            "fill_pages_per_s": filled,
            **measured,
            "settled_s": settled_s,
            "index_pooling": self._pooling,
            "dim": self._corpus.dim,
            "questions": len(asked.questions),
            "benchmark_peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6, 1),
        }

    async def _fill(self, size: int) -> float:
        """Returns pages a second. Reading the vectors and scoring them exactly does not count."""
        start, filled_s = len(self._placed), 0.0
        for pages in self._corpus.read(start, size):
            began = time.perf_counter()
            placed = await self._filler.fill(pages)
            filled_s += time.perf_counter() - began
            self._exact.add(pages)
            self._placed.update((place, PageName(page.manual, page.page_number)) for place, page in placed.items())
        return round((size - start) / filled_s, 2)

    def _searching(self, size: int) -> Any:
        questions = self._bench.folder / f"questions-{size}.npz"
        write_questions(self._questions[size], questions)
        effort = [self._arguments.effort] if self._arguments.effort else []
        options = [str(questions), self._bench.collection, self._corpus.fingerprint, str(TOP), *effort]
        # numpy computes a matrix product in one thread, as in the API; to be set before numpy is imported.
        own = {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd()), "PAGEMILL_LOG_FORMAT": "json"}
        env = {**clean_environment(), **self._bench.environment, **own}
        return search_process(options, env, self._bench.folder / f"search-{size}.log")

    async def _beside_ingest(self, process: SearchProcess, queries: Sequence[str]) -> dict[str, float]:
        with _ingesting(self._bench, self._pooling, self._arguments.beside_ingest) as lines:
            before = len(lines.read_bytes().splitlines())
            load = await many_clients(process, queries, CLIENTS, self._arguments.seconds)
            pages = sum(map(int, lines.read_bytes().splitlines()[before:]))
        ingested = {"ingested_pages_per_s": round(pages / load.elapsed_s, 2)}
        return {**figures_of_load(load, "beside_ingest_"), **ingested}

    async def _step(self, reached: str) -> None:
        if self._arguments.step:
            print(f"{reached}: press Enter", flush=True)
            await asyncio.to_thread(sys.stdin.readline)


def _flush(bench: Bench) -> None:
    """Let Milvus seal all segments of the collection: it builds an index of a sealed segment alone."""
    settings = bench.settings.milvus
    with closing(MilvusClient(uri=settings.milvus_uri, token=settings.milvus_token.get_secret_value())) as client:
        for name in client.list_collections():
            if name.startswith(bench.collection):
                client.flush(name)


@contextmanager
def _ingesting(bench: Bench, index_pooling: int, paths: Sequence[Path]) -> Iterator[Path]:
    """Run an ingest in a process of its own. The file gets a line for each document."""
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


async def run(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    corpus = Corpus(arguments.manuals, arguments.sizes[-1], arguments.dim)
    figures: list[dict[str, Any]] = []
    async with open_bench(arguments.settings, arguments.milvus) as bench:
        growth = Growth(bench, corpus, arguments)
        for size in arguments.sizes:
            figures.append(await growth.grow_to(size))
            print(table(figures), flush=True)
            print("  mean ms:", ", ".join(f"{part} {ms:g}" for part, ms in figures[-1]["stages"].items()), flush=True)
            if arguments.json:  # after each size: a run that is cut off leaves its figures
                write_json(figures, arguments.json)
    return figures


def _sizes(text: str) -> list[int]:
    sizes = sorted({int(size) for size in text.split(",")})
    if sizes[0] < 1:
        raise argparse.ArgumentTypeError("a size is at least 1")
    return sizes


def _setting(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name.startswith("PAGEMILL_"):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form PAGEMILL_NAME=VALUE")
    return name, value


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=_sizes, default="1024,4096,9216", help="pages of the collection")
    parser.add_argument("--milvus", type=MilvusKind, choices=list(MilvusKind), default=MilvusKind.LITE)
    parser.add_argument("--json", type=Path, help="write the figures to this file, a list of objects")
    parser.add_argument("--plot", type=Path, help="draw the figures into this file")
    parser.add_argument("--questions", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3, help="how often one client asks all questions")
    parser.add_argument("--seconds", type=float, default=20, help=f"for which {CLIENTS} clients ask")
    parser.add_argument("--settle-s", type=float, default=120, help="at most, until Milvus has built its indexes")
    parser.add_argument("--warm-up-s", type=float, default=STABLE_S, help="of one client, one round at least")
    parser.add_argument("--flush", action="store_true", help="let Milvus seal all segments before it is searched")
    parser.add_argument("--index-pooling", type=int, help="vectors of a page in one row; by default the setting")
    parser.add_argument("--dim", type=int, default=DIM, help="project the vectors to this dimension by PCA")
    parser.add_argument("--effort", help="of each search, where the release has efforts")
    parser.add_argument("--setting", type=_setting, action="append", default=[], help="PAGEMILL_NAME=VALUE, repeated")
    parser.add_argument(
        "--beside-ingest", type=Path, action="append", help="at the last size, search while this manual is written"
    )
    parser.add_argument("--step", action="store_true", help="wait for Enter before and after each size is searched")
    parser.add_argument("manuals", type=Path, nargs="+")
    arguments = parser.parse_args(argv)
    arguments.settings = dict(arguments.setting)
    if arguments.beside_ingest and arguments.dim != DIM:
        parser.error("--beside-ingest writes vectors of the full dimension: leave --dim out")
    effort_option(arguments.effort)
    if arguments.plot:
        require_matplotlib()
    return arguments


def main() -> None:
    arguments = parse()
    figures = asyncio.run(run(arguments))
    if arguments.plot:
        save_plot(figures, f"Milvus {arguments.milvus}, {arguments.dim} dimensions", arguments.plot)


if __name__ == "__main__":
    main()
