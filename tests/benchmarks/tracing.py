"""Measure the CPU time that traces cost a worker.

    PAGEMILL_TEST_STACK=…/stack.json python -m tests.benchmarks.tracing MANUAL.pdf [--order without off on]

ingests the same documents once in each way, in the order given, and prints a JSON line for each. `without`: all of
`ingestion.tracing` is replaced by constants before the worker is imported. `off`: as released, no endpoint. `on`:
every trace is sent to an OTLP receiver in a process of its own. CPU seconds are those of the worker and its children.
Repeat it, and turn the order round: the noise of one run is as large as the cost.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil
import structlog

from tests.benchmarks.rig import Bench, Worker, cpu_s, excerpts, open_bench
from tests.benchmarks.standin import DISCARD_ROWS
from workers.stack.supervise import ProcessSpec, Supervised

FILES: Final = ((40, 2), (2, 50))
"""(how many, pages of each). Files of two pages have the most spans for a page."""
_PAGES: Final = sum(count * pages for count, pages in FILES)
_TIMEOUT_S: Final = 110.0
_RECEIVER: Final = """
import sys
from tests.support.traces import OtlpReceiver
with OtlpReceiver() as receiver:
    print(receiver.endpoint, flush=True)
    sys.stdin.read()
    print(len(receiver.spans), flush=True)
"""
_WITHOUT: Final = """
from contextlib import nullcontext
import ingestion.tracing as tracing
from ingestion.tracing import spans
nothing = spans.NO_SPAN
for name in ("span", "processing", "serving"):
    setattr(tracing, name, lambda *args, **kwargs: nothing)
tracing.publishing = lambda topic, key, headers, origin=None: nullcontext(list(headers))
tracing.use_request_id = lambda *args: None
tracing.log_fields = lambda: {}
tracing.inject = lambda headers: None
tracing.current_origin = lambda: spans.NO_ORIGIN
tracing.current_request_id = lambda: ""
from tests.benchmarks import standin
standin.main()
"""


class WorkerWithout(Worker):
    """Its code calls constants in place of `ingestion.tracing`."""

    def __init__(self, name: str, environment: dict[str, str], folder: Path) -> None:
        super().__init__(name, environment, folder)
        spec = self.process.spec
        argv = (sys.executable, "-P", "-c", _WITHOUT)
        self.process = Supervised(ProcessSpec(spec.name, argv, "", spec.probe, env=spec.env), self._log_path)


@contextmanager
def receiving() -> Iterator[tuple[str, list[int]]]:
    """The endpoint of a receiver, and, after the block, the number of spans that it took."""
    taken: list[int] = []
    with subprocess.Popen(
        [sys.executable, "-c", _RECEIVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip(), taken
        answer, _ = process.communicate()
        taken.append(int(answer))


async def measure(bench: Bench, pdf: Path, way: str, endpoint: str) -> dict[str, float | str]:
    jobs = []
    for count, pages in FILES:
        jobs += await bench.accept(excerpts(pdf, pages, count, first_page=40))
    environment = {**bench.environment, DISCARD_ROWS: "1"}
    if way == "on":
        environment["PAGEMILL_OTLP_ENDPOINT"] = endpoint
    kind = WorkerWithout if way == "without" else Worker
    worker = kind(f"worker-{way}", environment, bench.folder)
    await worker.process.start()
    try:
        await worker.ready()
        process = psutil.Process(worker.pid)
        before_s = cpu_s(process)
        await bench.publish(jobs)
        await bench.all_ready(len(jobs), _TIMEOUT_S)
        await asyncio.sleep(3.0)  # spans are sent every two seconds
        used_s = cpu_s(process) - before_s
    finally:
        await worker.process.stop()
    return {"way": way, "cpu_s": round(used_s, 2), "pages": _PAGES, "ms_a_page": round(1000 * used_s / _PAGES, 2)}


async def run(pdf: Path, order: list[str]) -> None:
    for way in order:
        with receiving() as (endpoint, taken):
            async with open_bench({"PAGEMILL_DPI_POLICY": "fixed", "PAGEMILL_FIXED_DPI": "150"}) as bench:
                found = await measure(bench, pdf, way, endpoint)
        print(json.dumps({**found, "spans": taken[0]}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pdf", type=Path)
    parser.add_argument("--order", nargs="+", choices=("without", "off", "on"), default=["without", "off", "on"])
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    asyncio.run(run(options.pdf, options.order))


if __name__ == "__main__":
    main()
