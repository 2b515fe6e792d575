"""Changes of documents in their order."""

from __future__ import annotations

from collections import Counter

from ingestion.model import Document, DocumentState, waiting_before
from tests.memory.state import MemoryPort


class MemoryDocumentFeed(MemoryPort):
    async def changed_since(self, collection: str, since_ms: int, limit: int) -> list[Document]:
        changed = self._documents(lambda one: one.collection == collection and _changed_ms(one) >= since_ms)
        return sorted(changed, key=_changed_ms)[:limit]

    async def last_change_ms(self, collection: str) -> int:
        return max(map(_changed_ms, self._documents(lambda one: one.collection == collection)), default=0)

    async def waiting_before(self, document: Document, limit: int) -> int:
        def is_before(one: Document) -> bool:
            assert one.created_at is not None
            assert document.created_at is not None
            is_waiting = one.state in (DocumentState.RECEIVED, DocumentState.QUEUED)
            return is_waiting and one.created_at < document.created_at

        if document.priority is None:
            return min(limit, len(self._documents(is_before)))
        waits = (DocumentState.RECEIVED, DocumentState.QUEUED)
        waiting = self._documents(lambda one: one.priority is not None and one.state in waits)
        own = [one for one in waiting if one.flow == document.flow and one.first_page_key < document.first_page_key]
        return min(limit, waiting_before(document.flow, len(own), Counter(one.flow for one in waiting)))


def _changed_ms(document: Document) -> int:
    assert document.updated_at is not None
    return round(document.updated_at.timestamp() * 1000)
