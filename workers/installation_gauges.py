"""Gauges of the whole installation: documents by state, the oldest unfinished one, webhooks, rows of collections.

Measuring them costs requests to the stores. So one process, the janitor, measures them at intervals, not every process
at every scrape.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from typing import Final

from ingestion import metrics
from ingestion.model import UNFINISHED, DocumentState, WebhookDeliveryState
from ingestion.ports import CollectionCatalogue, DocumentCounts, VectorStore, WebhookDeliveries

DOCUMENTS_EVERY_S: Final = 10.0
ROWS_EVERY_S: Final = 30.0
MAX_TIME_SHARE: Final = 0.01
"""Share of the time that a measurement may take. Milvus Lite counts by reading all rows, and answers nothing else
meanwhile."""
MAX_COLLECTIONS: Final = 50
"""The largest collections have a series each. The rest share the series OTHER."""
OTHER: Final = "_other"
"""No collection has this name: names begin with a letter or a digit."""
UNKNOWN_STATE: Final = "unknown"


class Schedule:
    """Says when a measurement is due: after `every_s`, or later if it takes more than MAX_TIME_SHARE of the time.

    One that failed stays due: the next round shows whether the store answers.
    """

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._due_at = -inf

    @property
    def is_due(self) -> bool:
        return time.monotonic() >= self._due_at

    @contextmanager
    def measuring(self) -> Iterator[None]:
        began = time.monotonic()
        yield
        ended = time.monotonic()
        self._due_at = ended + max(self._every_s, (ended - began) / MAX_TIME_SHARE)


@dataclass(slots=True)
class InstallationGauges:
    """Measures the gauges. A gauge keeps its last value while a store does not answer."""

    counts: DocumentCounts
    catalogue: CollectionCatalogue
    vectors: VectorStore
    deliveries: WebhookDeliveries
    documents_due: Schedule = field(default_factory=lambda: Schedule(DOCUMENTS_EVERY_S))
    rows_due: Schedule = field(default_factory=lambda: Schedule(ROWS_EVERY_S))
    _shown: set[str] = field(default_factory=set)

    async def round(self) -> None:
        """Measure what is due. Raises DependencyUnavailable."""
        if self.documents_due.is_due:
            with self.documents_due.measuring():
                await self._measure_documents()
                await self._measure_deliveries()
        if self.rows_due.is_due:
            with self.rows_due.measuring():
                await self._measure_rows()

    async def _measure_documents(self) -> None:
        counts: Counter[str] = Counter()
        for state, count in (await self.counts.count_by_state()).items():
            counts[state.value if state.is_known else UNKNOWN_STATE] += count
        ages_s = await self.counts.oldest_unfinished_s()
        for name in (*(state.value for state in DocumentState), UNKNOWN_STATE):
            metrics.DOCUMENTS.labels(name).set(counts[name])
        for state in UNFINISHED:
            metrics.OLDEST_DOCUMENT_AGE.labels(state.value).set(ages_s.get(state, 0.0))

    async def _measure_deliveries(self) -> None:
        counts = await self.deliveries.count_undelivered()
        for state in (WebhookDeliveryState.PENDING, WebhookDeliveryState.DEAD):
            metrics.WEBHOOKS_UNDELIVERED.labels(state.value).set(counts.get(state, 0))

    async def _measure_rows(self) -> None:
        rows = Counter({name: await self.vectors.count(name) for name in await self.catalogue.collections()})
        shown = dict(rows.most_common(MAX_COLLECTIONS))
        if len(rows) > len(shown):
            shown[OTHER] = rows.total() - sum(shown.values())
        for name, count in shown.items():
            metrics.ENTITIES.labels(name).set(count)
        for gone in self._shown - shown.keys():
            metrics.ENTITIES.remove(gone)
        self._shown = set(shown)
