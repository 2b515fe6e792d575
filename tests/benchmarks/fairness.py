"""Measure how long one file waits while thousands of others do, against an idle worker.

    python -m tests.benchmarks.fairness [--files 2000] [--unfair]

One worker with a stand-in device of 50 ms a page (tests.benchmarks.standin), whose rows are not sent, ingests one-page
files of tenant `a` from five real servers: those of $PAGEMILL_TEST_STACK or new ones. Meanwhile files of two pages are
uploaded one after another: of tenant `b`, and of `a` as `interactive`. Each is timed from the upload to `ready`.
`--unfair` lets each
record serve its own document in the order of Kafka, as releases before 0.3 did, and uploads one file of `b` alone.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import logging
import secrets
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog
from motor.motor_asyncio import AsyncIOMotorClient

from ingestion.model import Document, DocumentState, IngestJob, Priority, document_id, first_fence, source_key
from ingestion.retrying import retrying
from ingestion.sandbox.pool import Sandbox
from ingestion.submit import Submitter, Upload, UploadOptions
from tests.benchmarks.rig import Bench, open_bench
from tests.benchmarks.standin import DISCARD_ROWS, GPU_MS, UNFAIR
from tests.support.pdfs import text_pdf

_GPU_MS: Final = "50"
_SAMPLES: Final = 5
_AT_ONCE: Final = 100
_WINDOW_S: Final = 6.0
_TIMEOUT_S: Final = 300.0
_LOOK_EVERY_S: Final = 0.02


@dataclass(slots=True)
class Site:
    bench: Bench
    submitter: Submitter
    documents: Any
    """The collection of records, read past the product."""

    def collection(self, tenant: str) -> str:
        return f"{tenant}.{self.bench.collection}"

    async def fill(self, tenant: str, count: int) -> None:
        """Publish jobs of `count` one-page files, in bulk."""
        store, blobs, collection = self.bench.services.documents, self.bench.services.blobs, self.collection(tenant)
        content = text_pdf("one page")
        first = await store.reserve_page_keys(count)
        for start in range(0, count, _AT_ONCE):
            numbers = range(start, min(start + _AT_ONCE, count))
            found = [_document(collection, f"{number}.pdf", content, first + number) for number in numbers]
            await asyncio.gather(
                *(retrying(blobs.put, one.object_key, content, "application/pdf") for one in found),
                *(store.insert(one) for one in found),
            )
            await asyncio.gather(*(self.bench.services.queue.publish(IngestJob.of(one)) for one in found))
            await asyncio.gather(*(store.mark_queued(one) for one in found))

    async def upload(self, tenant: str, priority: Priority) -> float:
        """Upload a file of two pages as the API does. Returns the seconds until it is ready."""
        content = text_pdf(secrets.token_hex(8), "second page")
        path = self.bench.folder / f"{secrets.token_hex(4)}.pdf"
        path.write_bytes(content)
        began_s = time.monotonic()
        upload = Upload(path.name, path, hashlib.sha256(content).hexdigest(), len(content))
        document = await self.submitter.submit(self.collection(tenant), upload, UploadOptions(priority=priority))
        path.unlink()
        while time.monotonic() < began_s + _TIMEOUT_S:
            record = await self.documents.find_one({"_id": document.id}, {"state": 1})
            if record["state"] == DocumentState.READY:
                return time.monotonic() - began_s
            await asyncio.sleep(_LOOK_EVERY_S)
        raise AssertionError(f"{document.id} is not ready after {_TIMEOUT_S:g} s")

    async def samples(self, tenant: str, priority: Priority, count: int = _SAMPLES) -> list[float]:
        return [await self.upload(tenant, priority) for _ in range(count)]

    async def ready(self) -> int:
        return int(await self.documents.count_documents({"state": DocumentState.READY}))

    async def rate(self) -> float:
        """Files a second."""
        before, began_s = await self.ready(), time.monotonic()
        await asyncio.sleep(_WINDOW_S)
        return (await self.ready() - before) / (time.monotonic() - began_s)


def _document(collection: str, filename: str, content: bytes, page_key: int) -> Document:
    sha256 = hashlib.sha256(content).hexdigest()
    id_ = document_id(collection, filename, sha256, "")
    return Document(
        id_,
        collection,
        filename,
        source_key(id_),
        sha256,
        len(content),
        pages=1,
        first_page_key=page_key,
        fence=first_fence(page_key),
        priority=Priority.BULK,
    )


async def measure(files: int, *, is_fair: bool) -> None:
    async with open_bench({"PAGEMILL_OCR": "off"}) as bench:
        services = bench.services
        client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(bench.settings.mongo.mongo_uri)
        submitter = Submitter(
            records=services.documents,
            blobs=services.blobs,
            queue=services.queue,
            progress=services.progress,
            sandbox=Sandbox(processes=1, memory_bytes=1 << 30),
            max_pages=bench.settings.api.max_pages,
            inspect_timeout_s=bench.settings.api.inspect_timeout_s,
        )
        site = Site(bench, submitter, client[bench.settings.mongo.mongo_database]["documents"])
        (worker,) = await bench.start(1, **{GPU_MS: _GPU_MS, DISCARD_ROWS: "1", UNFAIR: str(int(not is_fair))})
        for tenant in "ab":  # the first file of a collection makes its index
            await site.samples(tenant, Priority.BULK, 2)
        idle = await site.samples("b", Priority.BULK)
        _show("idle", idle)
        await site.fill("a", files)
        others = 4 + _SAMPLES
        print(f"{files - await site.ready() + others} of {files} files of a wait")
        if is_fair:
            for name, tenant, priority in (("b", "b", Priority.BULK), ("a, interactive", "a", Priority.INTERACTIVE)):
                _show(name, await site.samples(tenant, priority), idle)
            print(f"{files - await site.ready() + others + 2 * _SAMPLES} files of a still wait")
            print(f"{await site.rate():.1f} files/s")
        else:
            print(f"{await site.rate():.1f} files/s")
            _show("b", await site.samples("b", Priority.BULK, 1), idle)
        await worker.process.stop()
        client.close()
        for tenant in "ab":
            await retrying(services.vectors.drop, site.collection(tenant))


def _show(name: str, seconds: Sequence[float], idle: Sequence[float] = ()) -> None:
    median = statistics.median(seconds)
    times = f", {median / statistics.median(idle):.1f} times idle" if idle else ""
    print(f"{name}: median {median:.2f} s, longest {max(seconds):.2f} s of {len(seconds)}{times}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--unfair", action="store_true")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    asyncio.run(measure(options.files, is_fair=not options.unfair))


if __name__ == "__main__":
    main()
