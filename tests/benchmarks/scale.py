"""Measure how throughput scales with workers: processes with stand-in devices on one set of servers.

    python -m tests.benchmarks.scale MANUAL.pdf [--gpu-ms 1000] [--workers 1 2 4 8] [--discard-rows]

Each worker has more work than it can do. When all are working, the benchmark counts the pages that pass their devices
in a fixed time; no stage buffers more than a few pages. Efficiency is the pages per second of n workers, divided by n
times those of one worker. It stays near 1 only while the machine has idle CPU, so that share is printed too. Choose a
long enough time per page on the device: at 0.1 CPU seconds a page for worker and servers, k cores allow 10 k pages per
second.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil
import structlog

from tests.benchmarks.rig import Bench, Worker, excerpts, open_bench
from tests.benchmarks.standin import DISCARD_ROWS, GPU_MS
from tests.chaos.waiting import until_async

_PAGES: Final = 24
_BATCH_PAGES: Final = 4
_BATCHES_MEASURED: Final = 10
_START_S: Final = 300.0
_SETTINGS: Final = {
    "PAGEMILL_DPI_POLICY": "fixed",
    "PAGEMILL_FIXED_DPI": "200",
    # Small batches, so that counting begins and ends with few pages in progress.
    "PAGEMILL_RENDER_WINDOW_PAGES": str(_BATCH_PAGES),
    "PAGEMILL_EMBED_BATCH_PATCHES": str(_BATCH_PAGES * 768),
    "PAGEMILL_JOBS_IN_FLIGHT": "2",
    "PAGEMILL_DRAIN_S": "1",
}


@dataclass(frozen=True)
class Row:
    workers: int
    pages_per_s: float
    idle: float
    """Share of the machine's CPU time."""


async def measure(bench: Bench, count: int, gpu_s: float, pdf: Path, *, discard_rows: bool) -> Row:
    """`count` workers that start together and share the partitions, and stop afterwards."""
    measured_s = _BATCHES_MEASURED * _BATCH_PAGES * gpu_s
    # Twice what they need, because they do not start at the same moment. The rest is for the next workers.
    documents = count * (2 + round(2 * measured_s / gpu_s / _PAGES))
    jobs = await bench.accept(excerpts(pdf, _PAGES, documents, first_page=count * 97))
    workers = await bench.start(count, **{GPU_MS: f"{gpu_s * 1000:g}", DISCARD_ROWS: str(int(discard_rows))})
    await bench.publish(jobs)

    async def all_at_work() -> bool:
        return min([pages for pages, _ in await _devices(workers)]) >= 2 * _BATCH_PAGES

    await until_async(all_at_work, _START_S, f"{count} workers are working")
    before, cpu_before = await _devices(workers), psutil.cpu_times()
    await asyncio.sleep(measured_s)
    after, cpu = await _devices(workers), psutil.cpu_times()
    await asyncio.gather(*(worker.process.stop() for worker in workers))
    rates = [(pages - pages_0) / (at - at_0) for (pages, at), (pages_0, at_0) in zip(after, before, strict=True)]
    return Row(count, sum(rates), (cpu.idle - cpu_before.idle) / (sum(cpu) - sum(cpu_before)))


async def _devices(workers: list[Worker]) -> list[tuple[float, float]]:
    """For each worker: pages that its device has finished, and the time of the last one."""
    counters = await asyncio.gather(*(worker.counters() for worker in workers))
    return [(of["bench_device_pages"], of["bench_device_seconds"]) for of in counters]


async def compare(pdf: Path, counts: list[int], gpu_s: float, *, discard_rows: bool) -> None:
    partitions = {"PAGEMILL_KAFKA_PARTITIONS": str(2 * max(counts))}
    async with open_bench({**_SETTINGS, **partitions}) as bench:
        rows = [await measure(bench, count, gpu_s, pdf, discard_rows=discard_rows) for count in counts]
    single = rows[0].pages_per_s / rows[0].workers
    print(f"{gpu_s * 1000:g} ms a page on the device, which allows {1 / gpu_s:.2f} pages/s a worker")
    print("workers  pages/s  efficiency  of the devices  CPU idle")
    for row in rows:
        efficiency, of_devices = row.pages_per_s / row.workers / single, row.pages_per_s / row.workers * gpu_s
        print(f"{row.workers:>7} {row.pages_per_s:>8.2f} {efficiency:>11.3f} {of_devices:>15.3f} {row.idle:>9.0%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pdf", type=Path)
    parser.add_argument("--gpu-ms", type=float, default=1000.0, help="time of a page on a worker's device")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--discard-rows", action="store_true", help="pack rows and do not send them")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    asyncio.run(compare(options.pdf, options.workers, options.gpu_ms / 1000, discard_rows=options.discard_rows))


if __name__ == "__main__":
    main()
