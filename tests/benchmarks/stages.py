"""Measure CPU time per page, and memory against the page count, on excerpts of one PDF.

    python -m tests.benchmarks.stages --data-dir D MANUAL.pdf --pages 50 --pages 1000

needs an idle `pagemill up --data-dir D --workers 1`. Load of the machine changes pages per second, but hardly the CPU
time.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import psutil
import pypdfium2

from ingestion.model import Page
from workers.embedding.local.embedder import open_local

SAMPLE_EVERY_S: Final = 0.2
WINDOW_PAGES: Final = 8
EMBEDDED_WINDOWS: Final = 12
CHILD_STAGES: Final = ("render", "text", "encode")
LEGEND: Final = f"""
CPU seconds a page. render, text, encode: as the worker's children report them, poppler's processes included. worker:
the worker process with all its threads, without its children. embed, a part of it: the same embedder on up to
{EMBEDDED_WINDOWS} windows of the same pages, measured in this process. rest: the rest of worker: fetching, writing to
the three stores, leases, progress and the event loop.
Resident memory. worker: its peak, by the kernel. children: the largest sum over render children and poppler's
processes, sampled every {SAMPLE_EVERY_S} s."""


@dataclass(frozen=True)
class Row:
    """One excerpt: seconds from upload to ready, CPU seconds of a page, and peaks of memory."""

    pages: int
    seconds: float
    cpu_s: dict[str, float]
    worker_mib: float
    children_mib: float


class Worker:
    """The only worker of a local stack, measured from outside."""

    def __init__(self, stack: dict[str, Any]) -> None:
        pids = [process["pid"] for process in stack["processes"] if process["name"].startswith("worker-")]
        if len(pids) != 1:
            raise SystemExit(f"the benchmark needs exactly one worker; there are {len(pids)}")
        self._process = psutil.Process(pids[0])
        self._proc = Path(f"/proc/{pids[0]}")
        self._metrics_url = f"http://127.0.0.1:{self._process.environ()['PAGEMILL_WORKER_METRICS_PORT']}/metrics"

    def forget_peak(self) -> None:
        (self._proc / "clear_refs").write_text("5")  # proc_pid_clear_refs(5): resets VmHWM

    def peak_mib(self) -> float:
        found = re.search(r"VmHWM:\s+(\d+) kB", (self._proc / "status").read_text())
        assert found
        return int(found[1]) / 1024

    def children_mib(self) -> float:
        total_bytes = 0
        for child in self._process.children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # poppler processes are short-lived
                total_bytes += child.memory_info().rss
        return total_bytes / 1024**2

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds since the worker started: its children by stage, and the worker process."""
        counters = httpx.get(self._metrics_url).raise_for_status().text
        found = re.findall(r'^ingestion_stage_cpu_seconds_total\{stage="(\w+)"\} (\S+)', counters, re.MULTILINE)
        used = {stage: float(seconds) for stage, seconds in found}
        own = self._process.cpu_times()
        return {**{stage: used.get(stage, 0.0) for stage in CHILD_STAGES}, "worker": own.user + own.system}


def excerpt(path: Path, pages: int) -> tuple[bytes, int]:
    """A PDF of the first `pages` pages, and its page count."""
    with pypdfium2.PdfDocument(path) as whole, pypdfium2.PdfDocument.new() as part:
        count = min(pages, len(whole))
        part.import_pages(whole, list(range(count)))
        buffer = io.BytesIO()
        part.save(buffer)
        return buffer.getvalue(), count


def ingest(api: httpx.Client, worker: Worker, content: bytes, pages: int) -> Row:
    """Ingest the excerpt into a collection of its own, measure the worker, and delete the collection."""
    collection = f"stages-{pages}-{int(time.time())}"
    before_s, began, children_mib = worker.cpu_s(), time.monotonic(), 0.0
    worker.forget_peak()
    answer = api.post(f"/collections/{collection}/documents", files={"files": (f"{pages}-pages.pdf", content)})
    address = f"/documents/{answer.raise_for_status().json()['documents'][0]['document_id']}"
    while (document := api.get(address).raise_for_status().json())["state"] != "ready":
        if document["state"] == "failed":
            raise SystemExit(f"{pages} pages: {document['error']}")
        children_mib = max(children_mib, worker.children_mib())
        time.sleep(SAMPLE_EVERY_S)
    seconds = time.monotonic() - began
    cpu_s = {stage: (used - before_s[stage]) / pages for stage, used in worker.cpu_s().items()}
    row = Row(pages, seconds, cpu_s, worker.peak_mib(), children_mib)
    print(f"{pages} pages in {seconds:.0f} s, worker {row.worker_mib:.0f} MiB", flush=True)
    api.delete(f"/collections/{collection}").raise_for_status()
    return row


def embed_cpu_s(content: bytes, pages: int) -> float:
    """CPU seconds per page of the local embedder, over windows spread evenly across the document."""
    every = max(1, pages // WINDOW_PAGES // EMBEDDED_WINDOWS)
    with pypdfium2.PdfDocument(content) as pdf:
        texts = [pdf[index].get_textpage().get_text_bounded() for index in range(pages)]
    windows = [texts[first : first + WINDOW_PAGES] for first in range(0, pages, WINDOW_PAGES)][::every]
    batches = [[Page(1, 0, 0, b"", text) for text in window] for window in windows]
    return asyncio.run(_embedding_cpu_s(batches)) / sum(map(len, batches))


async def _embedding_cpu_s(batches: list[list[Page]]) -> float:
    async with open_local() as embedder:
        await embedder.embed_pages(batches[0])  # the first call sets up threads and buffers
        before_s = time.process_time()
        for batch in batches:
            await embedder.embed_pages(batch)
        return time.process_time() - before_s


def show(rows: list[Row], embed_s: list[float]) -> None:
    stages = [*CHILD_STAGES, "worker", "embed", "rest"]
    print(f"{'pages':>6} {'seconds':>8} {'pages/s':>8}", *(f"{stage:>7}" for stage in stages), "  worker  children")
    for row, embed in zip(rows, embed_s, strict=True):
        cpu_s = {**row.cpu_s, "embed": embed, "rest": row.cpu_s["worker"] - embed}
        figures = f"{row.pages:>6} {row.seconds:>8.0f} {row.pages / row.seconds:>8.2f}"
        memory = f"{row.worker_mib:>4.0f} MiB {row.children_mib:>5.0f} MiB"
        print(figures, *(f"{cpu_s[stage]:>7.3f}" for stage in stages), memory)
    for row in rows[1:]:
        worker, children = row.worker_mib / rows[0].worker_mib, row.children_mib / rows[0].children_mib
        print(f"peaks of {row.pages} pages to {rows[0].pages}: worker {worker:.2f}, children {children:.2f}")
    print(LEGEND)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, default=Path(".pagemill"))
    parser.add_argument("--pages", type=int, action="append", help="pages of an excerpt; may be given many times")
    parser.add_argument("pdf", type=Path)
    arguments = parser.parse_args()
    stack = json.loads((arguments.data_dir / "stack.json").read_text())
    excerpts = [excerpt(arguments.pdf, pages) for pages in arguments.pages or [50, 1000]]
    headers = {"Authorization": f"Bearer {stack['api_key']}"}
    with httpx.Client(base_url=f"{stack['api_url']}/api/v1", headers=headers, timeout=300) as api:
        worker = Worker(stack)
        rows = [ingest(api, worker, content, pages) for content, pages in excerpts]
    show(rows, [embed_cpu_s(content, pages) for content, pages in excerpts])


if __name__ == "__main__":
    main()
