"""Changes of documents in their order."""

from __future__ import annotations

from ingestion.model import Document, DocumentState
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

        return min(limit, len(self._documents(is_before)))


def _changed_ms(document: Document) -> int:
    assert document.updated_at is not None
    return round(document.updated_at.timestamp() * 1000)
