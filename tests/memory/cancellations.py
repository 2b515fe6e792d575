"""Cancelled documents in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ingestion.errors import CollectionArchived, Conflict, NotFound
from ingestion.filters import Filter, matches
from ingestion.model import CANCELLATION, Document, DocumentState, EventType, sources_of
from tests.memory.ledger import NO_LEASE
from tests.memory.state import MemoryPort, StoredDocument

_CANCELLABLE = sources_of(DocumentState.CANCELLING)


class MemoryCancellations(MemoryPort):
    async def begin_cancel(self, document_id: str) -> Document:
        stored = self.state.documents.get(document_id)
        if stored is None:
            raise NotFound(f"there is no document {document_id}")
        document = stored.document
        document.require_readable()
        if document.state is DocumentState.ARCHIVED:
            raise CollectionArchived(f"document {document_id} is in a collection that is being archived or restored")
        if document.state in CANCELLATION:
            return document
        if document.state not in _CANCELLABLE:
            raise Conflict(f"document {document_id} is {document.state}: there is no work to cancel")
        self._record_event(document_id, "cancelled")
        begun = {"state": DocumentState.CANCELLING, "fence": document.fence + 1, "outbox": "sent"}
        return self._change(document_id, {**begun, **NO_LEASE})

    async def begin_cancels(self, collection: str, where: Filter | None = None) -> int:
        def is_wanted(one: Document) -> bool:
            is_unfinished = one.collection == collection and one.state in _CANCELLABLE
            return is_unfinished and (where is None or matches(where, one))

        wanted = self._documents(is_wanted)
        for document in wanted:
            await self.begin_cancel(document.id)
        return len(wanted)

    async def being_cancelled(self, collection: str, limit: int, *, after: str = "") -> Sequence[Document]:
        def is_wanted(one: Document) -> bool:
            return one.collection == collection and one.state is DocumentState.CANCELLING and one.id > after

        return self._documents(is_wanted)[:limit]

    async def end_cancel(self, document: Document) -> Document | None:
        stored = self.state.documents.get(document.id)
        if stored is None or stored.document.state is not DocumentState.CANCELLING:
            return None
        if stored.document.fence != document.fence:
            return None
        ended = {"state": DocumentState.CANCELLED, "stage": "", "pages_done": 0, "text_pages": None, "error": None}
        self._add_outbox_event(document.id, EventType.CANCELLED)
        return self._change(document.id, ended)

    async def restart(self, cancelled: Document, document: Document) -> bool:
        stored = self.state.documents.get(document.id)
        if stored is None or stored.document.state is not DocumentState.CANCELLED:
            return False
        if stored.document.first_page_key != cancelled.first_page_key:
            return False
        now = self.clock.now
        received = replace(document, state=DocumentState.RECEIVED, outbox="pending", created_at=now, updated_at=now)
        self.state.documents[document.id] = StoredDocument(received)
        return True
