"""Which documents have terms."""

from __future__ import annotations

from collections.abc import Sequence

from ingestion.model import TERM_FORMAT, Document, DocumentState
from tests.memory.state import MemoryPort


class MemoryTermRecords(MemoryPort):
    async def without_terms(self, limit: int, *, after: str = "", collection: str | None = None) -> Sequence[Document]:
        def is_wanted(one: Document) -> bool:
            is_ready = one.state is DocumentState.READY and collection in (None, one.collection)
            return is_ready and one.terms_format < TERM_FORMAT and one.id > after

        return self._documents(is_wanted)[:limit]

    async def count_without_terms(self, limit: int, *, collection: str | None = None) -> int:
        return len(await self.without_terms(limit, collection=collection))

    async def set_terms_format(self, document: Document, terms_format: int) -> bool:
        stored = self.state.documents.get(document.id)
        if stored is None or stored.document.state is not DocumentState.READY:
            return False
        if any(
            getattr(stored.document, name) != getattr(document, name) for name in ("first_page_key", "terms_format")
        ):
            return False
        self._change(document.id, {"terms_format": terms_format})
        return True
