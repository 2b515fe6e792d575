"""What is processed now, and what was finished a moment ago, in memory."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta

from ingestion.model import Document, DocumentState, tenant_of
from ingestion.ports import FinishedMinute
from tests.memory.state import MemoryPort


class MemoryWorkRecords(MemoryPort):
    async def in_work(self, limit: int, *, tenant: str | None = None) -> list[Document]:
        def is_held(one: Document) -> bool:
            return one.state is DocumentState.PROCESSING and one.lease_until_ms > self.clock.now_ms

        held = self._documents(lambda one: is_held(one) and tenant in (None, tenant_of(one.collection)))
        return sorted(held, key=_changed_at, reverse=True)[:limit]

    async def finished(self, minutes: int, limit: int, *, tenant: str | None = None) -> list[FinishedMinute]:
        since = self.clock.now - timedelta(minutes=minutes)
        counts: defaultdict[tuple[datetime, DocumentState], list[int]] = defaultdict(lambda: [0, 0])
        for state in (DocumentState.READY, DocumentState.FAILED):
            recent = self._documents(lambda one, state=state: one.state is state and _changed_at(one) >= since)  # type: ignore[misc]
            for one in sorted(recent, key=_changed_at, reverse=True)[:limit]:
                at = one.ready_at or _changed_at(one) if state is DocumentState.READY else _changed_at(one)
                if at >= since and tenant in (None, tenant_of(one.collection)):
                    count = counts[at.replace(second=0, microsecond=0), state]
                    count[0] += 1
                    count[1] += one.pages
        return [FinishedMinute(at, state, *count) for (at, state), count in sorted(counts.items())]


def _changed_at(document: Document) -> datetime:
    assert document.updated_at is not None
    return document.updated_at
