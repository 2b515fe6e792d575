"""Read and record which documents have terms."""

from __future__ import annotations

from ingestion.adapters.mongo.database import MongoPort
from ingestion.adapters.mongo.document_mapping import document_of
from ingestion.adapters.mongo.errors import translated
from ingestion.adapters.mongo.formats import recorded_as, with_earlier_format
from ingestion.model import TERM_FORMAT, Document, DocumentState


class MongoTermRecords(MongoPort):
    """Implements the port TermRecords."""

    @translated
    async def without_terms(self, limit: int, *, after: str = "", collection: str | None = None) -> list[Document]:
        wanted = {**with_earlier_format("terms_format", TERM_FORMAT, collection), "_id": {"$gt": after}}
        found = await self._documents.find(wanted, {"story": 0}).sort("_id", 1).limit(limit).to_list(None)
        return [document_of(record) for record in found]

    @translated
    async def count_without_terms(self, limit: int, *, collection: str | None = None) -> int:
        wanted = with_earlier_format("terms_format", TERM_FORMAT, collection)
        return int(await self._documents.count_documents(wanted, limit=limit))

    @translated
    async def set_terms_format(self, document: Document, terms_format: int) -> bool:
        same = {
            "_id": document.id,
            "state": DocumentState.READY.value,
            "first_page_key": document.first_page_key,
            "terms_format": recorded_as(document.terms_format),
        }
        changed = await self._documents.update_one(same, {"$set": {"terms_format": terms_format}})
        return bool(changed.matched_count)
