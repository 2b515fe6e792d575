"""Measure a worker: pages per second, CPU time per page, and use of the device.

    python -m tests.benchmarks.ingest MANUAL.pdf [--only NAME]... [--milvus server] [--set PAGEMILL_…=…]...

runs a real worker with a stand-in device (tests.benchmarks.standin) at 200 DPI, on five real servers: those of
$PAGEMILL_TEST_STACK or new ones. For comparison it runs the same steps one after another (tests.benchmarks.series) on
the same pages and servers. Leave the machine idle otherwise: pages per second depend on its load, CPU time hardly.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from tests.benchmarks import series
from tests.benchmarks.rig import Bench, excerpts, open_bench
from tests.benchmarks.standin import DISCARD_ROWS, GPU_MS
from tests.benchmarks.usage import LEGEND, Usage, Watch, show
from workers.stack.server_specs import MilvusKind

_TIMEOUT_S: Final = 900.0
_AT_200_DPI: Final = {"PAGEMILL_DPI_POLICY": "fixed", "PAGEMILL_FIXED_DPI": "200"}
_WARM_UP_PAGES: Final = 16


@dataclass(frozen=True)
class Scenario:
    """`files`: (how many, pages of each)."""

    what: str
    files: Sequence[tuple[int, int]]
    gpu_ms: float = 0.0
    discard_rows: bool = False

    @property
    def pages(self) -> int:
        return sum(count * pages for count, pages in self.files)


SCENARIOS: Final = {
    "manual": Scenario("a 52-page file, the embedder costs nothing", [(1, 52)]),
    "alone": Scenario("a 300-page file, the embedder costs nothing, rows are not sent", [(1, 300)], 0.0, True),
    "long": Scenario("a 2,000-page file, 50 ms a page on the device", [(1, 2000)], 50.0),
    "short": Scenario("200 two-page files, 50 ms a page on the device", [(200, 2)], 50.0),
    "both": Scenario("a 2,000-page file and 200 two-page ones, 50 ms a page", [(1, 2000), (200, 2)], 50.0),
    "long-alone": Scenario("a 2,000-page file, 50 ms a page, rows are not sent", [(1, 2000)], 50.0, True),
    "short-alone": Scenario("200 two-page files, 50 ms a page, rows are not sent", [(200, 2)], 50.0, True),
    "both-alone": Scenario("both, 50 ms a page, rows are not sent", [(1, 2000), (200, 2)], 50.0, True),
}


async def run(bench: Bench, scenario: Scenario, pdf: Path) -> Usage:
    """Run the scenario in a worker of its own, after a few pages of warm-up."""
    documents = bench.services.documents
    before = len(await documents.list(bench.collection, limit=10_000))
    warm_up = await bench.accept(excerpts(pdf, _WARM_UP_PAGES, first_page=before * 7 + 1))
    jobs = []
    for count, pages in scenario.files:
        jobs += await bench.accept(excerpts(pdf, pages, count, first_page=before * 11 + 40))
    (worker,) = await bench.start(1, **{GPU_MS: str(scenario.gpu_ms), DISCARD_ROWS: str(int(scenario.discard_rows))})
    await bench.publish(warm_up)
    await bench.all_ready(before + 1, _TIMEOUT_S)
    async with Watch(bench, worker) as watch:
        await bench.publish(jobs)
        await bench.all_ready(before + 1 + len(jobs), _TIMEOUT_S)
    await worker.process.stop()
    assert watch.usage is not None
    return watch.usage


async def run_series(bench: Bench, pdf: Path) -> dict[str, float]:
    """Run the sequential version on the pages of the scenario "manual", in a process of its own."""
    name = f"{bench.collection}_series"
    path = bench.folder / "series.pdf"
    path.write_bytes(excerpts(pdf, SCENARIOS["manual"].pages, first_page=40)[0])
    with series.embedding_service() as url:
        await asyncio.to_thread(series.create_index, name, bench.settings)
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.benchmarks.series", str(path), name, url),
            env={**os.environ, **bench.environment},
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await child.communicate()
    await asyncio.to_thread(series.drop_index, name, bench.settings)
    figures: dict[str, float] = json.loads(output)
    pages = figures["pages"]
    print(
        f"\nseries: {pages:.0f} pages in {figures['seconds']:.1f} s, {pages / figures['seconds']:.1f} pages/s, "
        f"{1000 * figures['cpu_s'] / pages:.0f} CPU ms a page, peak memory {figures['peak_mib']:.0f} MiB",
        flush=True,
    )
    return figures


async def compare(
    pdf: Path, names: Sequence[str], settings: Mapping[str, str], milvus: MilvusKind, *, with_series: bool
) -> None:
    async with open_bench({**_AT_200_DPI, **settings}, milvus) as bench:
        plain = await run_series(bench, pdf) if with_series else None
        for name in names:
            scenario = SCENARIOS[name]
            usage = await run(bench, scenario, pdf)
            show(f"{name} ({scenario.what})", usage, scenario.pages, scenario.gpu_ms / 1000)
            if plain and not scenario.gpu_ms:
                rate = scenario.pages / usage.seconds
                times = rate * plain["seconds"] / plain["pages"]
                less = plain["cpu_s"] / plain["pages"] / (usage.worker_cpu_s / scenario.pages)
                print(f"  {times:.1f} times the pages per second of the series, 1/{less:.1f} of its CPU time")
    print(LEGEND)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pdf", type=Path, help="a text of some hundred pages; excerpts of it are ingested")
    parser.add_argument("--only", action="append", choices=SCENARIOS, help="default: the first five")
    parser.add_argument("--no-series", action="store_true")
    parser.add_argument("--milvus", type=MilvusKind, choices=list(MilvusKind), default=MilvusKind.LITE)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the worker")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    names = options.only or list(SCENARIOS)[:5]
    settings = dict(pair.split("=", 1) for pair in options.set)
    asyncio.run(compare(options.pdf, names, settings, options.milvus, with_series=not options.no_series))


if __name__ == "__main__":
    main()
