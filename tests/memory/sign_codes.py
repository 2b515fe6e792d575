"""Which documents have sign codes."""

from __future__ import annotations

from collections.abc import Sequence

from ingestion.model import SIGN_CODE_FORMAT, Document, DocumentState
from tests.memory.state import MemoryPort


class MemorySignCodeRecords(MemoryPort):
    async def without_codes(self, limit: int, *, after: str = "", collection: str | None = None) -> Sequence[Document]:
        def is_wanted(one: Document) -> bool:
            is_ready = one.state is DocumentState.READY and collection in (None, one.collection)
            return is_ready and one.codes_format < SIGN_CODE_FORMAT and one.id > after

        return self._documents(is_wanted)[:limit]

    async def count_without_codes(self, limit: int, *, collection: str | None = None) -> int:
        return len(await self.without_codes(limit, collection=collection))

    async def set_codes_format(self, document: Document, codes_format: int) -> bool:
        stored = self.state.documents.get(document.id)
        if stored is None or stored.document.state is not DocumentState.READY:
            return False
        names = ("first_page_key", "generation", "next_generation", "next_pages_done", "codes_format")
        if any(getattr(stored.document, name) != getattr(document, name) for name in names):
            return False
        self._change(document.id, {"codes_format": codes_format})
        return True
