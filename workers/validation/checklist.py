"""The items of the checklist, and the run of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from ingestion.errors import IngestError
from workers.validation import device_memory, faults, load, logs, monitoring, periodic, recall, stores
from workers.validation.context import Context
from workers.validation.finding import Finding, Item, ItemStatus, failed, skipped

BEFORE_PRODUCTION: Final = (
    Item("upload-verified", "Is an upload in MongoDB, S3 and Milvus?", stores.upload_in_all_stores),
    Item("load", "Are ten documents of 50 pages at once ready within the limits?", load.documents_at_once),
    Item("recall", "Does search find at least 95% of the exact result?", recall.recall_of_exact),
    Item("delete-verified", "Does a delete leave nothing in any store?", stores.delete_in_all_stores),
    Item("embedder-killed", "Is a document retried after its embedder was killed?", faults.embedder_killed),
    Item("milvus-cut-off", "Is Milvus reported while it is cut off, and is work resumed?", faults.milvus_cut_off),
    Item("disk-full", "Is a full disk of the object store handled?", faults.disk_full),
    Item("model-out-of-memory", "Does the embedder recover from a full device?", device_memory.model_out_of_memory),
    Item("metrics-served", "Do the processes serve their metrics?", monitoring.metrics_served),
    Item("metrics-scraped", "Does Prometheus scrape them?", monitoring.metrics_scraped),
    Item("alerts-loaded", "Does Prometheus have the alerts?", monitoring.alerts_loaded),
    Item("dashboards-found", "Does Grafana have the dashboards?", monitoring.dashboards_found),
    Item("logs-structured", "Are the logs structured?", logs.logs_structured),
)
WEEKLY: Final = (
    Item("indexes", "Has every collection with pages rows in its index?", periodic.indexes),
    Item("collection-sizes", "Do collections have the rows that their records name?", periodic.collection_sizes),
    Item("gpu-health", "Are the GPUs of this machine healthy?", periodic.gpu_health),
    Item("disk", "Is there enough disk?", periodic.disk),
)
MONTHLY: Final = (
    Item("batch-size", "Is the batch size right?", periodic.batch_size),
    Item("dpi", "Does the DPI fit the documents?", periodic.dpi_by_document_type),
)


@dataclass(frozen=True, slots=True)
class ItemResult:
    """The finding of an item, and how long it took."""

    item: Item
    finding: Finding
    seconds: float

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.item.name,
            "question": self.item.question,
            "seconds": round(self.seconds, 2),
            **asdict(self.finding),
            "evidence": {name: _plain(value) for name, value in self.finding.evidence.items()},
        }


async def run_item(item: Item, context: Context) -> ItemResult:
    """Return the finding of `item`. An error is a finding too: the item has failed with it."""
    started = time.monotonic()
    try:
        finding = await item.check(context)
    except Exception as error:  # noqa: BLE001 - the other items must run
        finding = failed(in_words(error))
    return ItemResult(item, finding, time.monotonic() - started)


async def run_checklist(
    items: Sequence[Item], context: Context, results: list[ItemResult], begun: Callable[[Item], None]
) -> None:
    """Run the items in their order, and append each result to `results`. `begun` is called before each."""
    for item in items:
        begun(item)
        results.append(await run_item(item, context))


def interrupted(items: Sequence[Item], results: Sequence[ItemResult]) -> list[ItemResult]:
    """Return results for the items that an interrupted run has not done."""
    return [ItemResult(item, skipped("the run was interrupted"), 0.0) for item in items[len(results) :]]


def is_good(results: Sequence[ItemResult]) -> bool:
    return all(result.finding.status is not ItemStatus.FAILED for result in results)


def in_words(error: BaseException) -> str:
    """Return the kind and message of an error; of a group of errors those of the first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, IngestError):
        return f"{error.code}: {error.message}"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _plain(value: object) -> object:
    return value if isinstance(value, str | int | float | bool | None) else str(value)
