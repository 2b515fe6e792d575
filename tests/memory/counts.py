"""Totals of documents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from ingestion.model import UNFINISHED, DocumentState
from tests.memory.state import MemoryPort


class MemoryDocumentCounts(MemoryPort):
    async def count_by_state(self) -> Mapping[DocumentState, int]:
        return Counter(one.state for one in self._documents(lambda _: True))

    async def oldest_unfinished_s(self) -> Mapping[DocumentState, float]:
        ages_s: dict[DocumentState, float] = {}
        for one in self._documents(lambda one: one.state in UNFINISHED):
            since = one.requeued_at or one.created_at
            assert since is not None
            ages_s[one.state] = max(ages_s.get(one.state, 0.0), (self.clock.now - since).total_seconds())
        return ages_s
