"""The weekly and monthly checks."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from typing import Final

from ingestion.bootstrap import Services
from ingestion.catalogue.states import CollectionRecord, CollectionState, CollectionTotals
from ingestion.model import Document, DocumentState
from workers.bench.scrape import Reading, metrics_urls, scrape_all, total
from workers.validation.context import Context
from workers.validation.finding import Finding, judged, skipped

_LOW_DISK: Final = 0.1
_HOT_C: Final = 85.0
_NVIDIA_SMI_S: Final = 20.0
_GPU_FIELDS: Final = "name,temperature.gpu,memory.used,memory.total,ecc.errors.uncorrected.volatile.total"
_GIB: Final = 1024**3
_DOCUMENTS_READ: Final = 2000
_LIST_AT_ONCE: Final = 200
_PAGES_READ: Final = 8
_FEW_CHARS: Final = 40
_SMALL_BATCH: Final = 0.25


async def indexes(context: Context) -> Finding:
    """Milvus has rows for each active collection that has pages."""
    services = context.services
    if services is None:
        return skipped(f"the stores cannot be reached: {context.no_services}")
    problems, answers = [], {}
    totals = await services.documents.collection_totals()
    for record in await _active(services):
        bound = await services.documents.binding(record.name)
        pages = totals.get(record.name, CollectionTotals()).pages
        rows = await services.vectors.count(record.name)
        answers[record.name] = f"{rows} rows, {pages} pages, generation {bound.current.number if bound else 'none'}"
        if pages and not rows:
            problems.append(f"{record.name} has {pages} pages and no rows in its index")
    return judged(problems, f"collections with rows in their index: {len(answers)}", **answers)


async def collection_sizes(context: Context) -> Finding:
    """Rows in Milvus against the rows that the page records name."""
    services = context.services
    if services is None:
        return skipped(f"the stores cannot be reached: {context.no_services}")
    problems, sizes = [], {}
    for record in await _active(services):
        bound = await services.documents.binding(record.name)
        if bound is None:
            continue
        ready = [one async for one in _documents(services, record.name) if one.state is DocumentState.READY]
        totals = await services.documents.page_totals([one.id for one in ready], bound.current.number)
        expected = sum(one.rows for one in totals.values())
        stored = await services.vectors.count_rows_in(record.name, [one.page_keys for one in ready])
        sizes[record.name] = f"{len(ready)} documents, {sum(one.pages for one in ready)} pages, {stored} rows"
        if stored != expected:
            problems.append(f"{record.name} has {stored} rows; its records name {expected}: run `pagemill janitor`")
    return judged(problems, f"collections with the rows that their records name: {len(sizes)}", **sizes)


async def gpu_health(context: Context) -> Finding:
    """Temperature, memory and uncorrected errors of the GPUs of this machine, by nvidia-smi."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return skipped("this machine has no nvidia-smi; run the command where the workers run")
    process = await asyncio.create_subprocess_exec(
        program, f"--query-gpu={_GPU_FIELDS}", "--format=csv,noheader,nounits", stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(_NVIDIA_SMI_S):
        output, _ = await process.communicate()
    return judge_gpus(output.decode())


def judge_gpus(listing: str) -> Finding:
    """`listing` has a line of comma-separated values for each GPU, those of `_GPU_FIELDS`."""
    problems, gpus = [], {}
    for number, line in enumerate(filter(None, map(str.strip, listing.splitlines()))):
        name, temperature, used, most, errors = (part.strip() for part in line.split(","))
        gpus[f"GPU {number}"] = f"{name}, {temperature} °C, {used} of {most} MiB, uncorrected errors {errors}"
        if temperature.isdecimal() and float(temperature) > _HOT_C:
            problems.append(f"GPU {number} has {temperature} °C, more than {_HOT_C:g}")
        if errors.isdecimal() and int(errors):
            problems.append(f"GPU {number} has {errors} uncorrected memory errors")
    return judged(problems, f"{len(gpus)} GPUs are healthy", **gpus) if gpus else skipped("nvidia-smi lists no GPU")


async def disk(context: Context) -> Finding:
    """The disk of a local stack. Servers elsewhere have disks of their own, which this command cannot see."""
    if not context.target.is_local:
        return skipped("the servers are elsewhere; look at the disks of MongoDB, S3, Milvus and Kafka there")
    usage = shutil.disk_usage(context.data_dir)
    share = usage.free / usage.total
    problems = [f"only {share:.0%} of the disk are free"] if share < _LOW_DISK else []
    return judged(problems, f"{share:.0%} of the disk are free", free=f"{usage.free / _GIB:.1f} GiB")


async def batch_size(context: Context) -> Finding:
    """A hint from the embedder's metrics: batches that do not fit, or that stay small while work waits."""
    urls = [*context.metrics, *metrics_urls(context.read_stack())]
    readings = await scrape_all(context.http, urls)
    if total(readings, "embedder_batch_items_count") is None:
        return skipped("no process that embeds is known; name the /metrics of workers with --metrics")
    return judge_batches(readings)


def judge_batches(readings: list[Reading]) -> Finding:
    def value(name: str) -> float:
        return total(readings, name) or 0.0

    batches, items = value("embedder_batch_items_count"), value("embedder_batch_items_sum")
    budget, out_of_memory = value("embedder_batch_budget_patches"), value("embedder_out_of_memory_total")
    if not batches:
        return skipped("no batch has been computed since the processes started")
    mean_patches = value("embedder_batch_patches_sum") / batches
    problems = []
    if out_of_memory:
        problems.append(f"{out_of_memory:g} batches did not fit: lower PAGEMILL_EMBED_BATCH_PATCHES to {budget:g}")
    hint = "keep it"
    if budget and mean_patches < _SMALL_BATCH * budget and not problems:
        hint = f"batches have {mean_patches:.0f} of {budget:g} patches: more documents in flight fill them"
    return judged(
        problems,
        hint,
        batches=f"{batches:g}",
        items_per_batch=f"{items / batches:.1f}",
        patches_per_batch=f"{mean_patches:.0f}",
        budget_patches=f"{budget:g}",
    )


async def dpi_by_document_type(context: Context) -> Finding:
    """Which DPI documents were rendered at, by type. A scan has pages with nearly no text."""
    services = context.services
    if services is None:
        return skipped(f"the stores cannot be reached: {context.no_services}")
    found: dict[str, Counter[int]] = defaultdict(Counter)
    read = 0
    async for document in _documents(services, None):
        if document.state is DocumentState.READY:
            found[await _type_of(services, document)][document.dpi] += 1
            read += 1
        if read == _DOCUMENTS_READ:
            break
    if not read:
        return skipped("there is no ready document")
    shown = {kind: ", ".join(f"{count} at {dpi} DPI" for dpi, count in of.most_common()) for kind, of in found.items()}
    scans = [dpi for kind, of in found.items() if kind.startswith("scan") for dpi in of]
    low = [dpi for dpi in scans if dpi < 150]
    problems = [f"scans were rendered at {min(low)} DPI: small print needs 150 or more"] if low else []
    return judged(problems, f"{read} documents were looked at", **shown)


async def _type_of(services: Services, document: Document) -> str:
    pages = await services.documents.pages_by_key(document.page_keys[:_PAGES_READ], with_text=True)
    chars = sum(len(page.text) for page in pages.values()) / max(1, len(pages))
    length = "50 pages or more" if document.pages >= 50 else "below 50 pages"
    return f"{'scans' if chars < _FEW_CHARS else 'documents with text'}, {length}"


async def _active(services: Services) -> list[CollectionRecord]:
    records = await services.documents.collection_records()
    return [record for record in records if record.state is CollectionState.ACTIVE]


async def _documents(services: Services, collection: str | None) -> AsyncIterator[Document]:
    after: str | None = None
    while batch := await services.documents.list(collection, limit=_LIST_AT_ONCE, after=after):
        for document in batch:
            yield document
        after = batch[-1].id
