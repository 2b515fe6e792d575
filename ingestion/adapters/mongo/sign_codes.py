"""Read and record which documents have sign codes."""

from __future__ import annotations

from ingestion.adapters.mongo.database import MongoPort
from ingestion.adapters.mongo.document_mapping import document_of
from ingestion.adapters.mongo.errors import translated
from ingestion.adapters.mongo.formats import recorded_as, with_earlier_format
from ingestion.catalogue.generations import FIRST
from ingestion.model import SIGN_CODE_FORMAT, Document, DocumentState


class MongoSignCodeRecords(MongoPort):
    """Implements the port SignCodeRecords."""

    @translated
    async def without_codes(self, limit: int, *, after: str = "", collection: str | None = None) -> list[Document]:
        wanted = {**with_earlier_format("codes_format", SIGN_CODE_FORMAT, collection), "_id": {"$gt": after}}
        found = await self._documents.find(wanted, {"story": 0}).sort("_id", 1).limit(limit).to_list(None)
        return [document_of(record) for record in found]

    @translated
    async def count_without_codes(self, limit: int, *, collection: str | None = None) -> int:
        wanted = with_earlier_format("codes_format", SIGN_CODE_FORMAT, collection)
        return int(await self._documents.count_documents(wanted, limit=limit))

    @translated
    async def set_codes_format(self, document: Document, codes_format: int) -> bool:
        same = {
            "_id": document.id,
            "state": DocumentState.READY.value,
            "first_page_key": document.first_page_key,
            "generation": recorded_as(document.generation, FIRST),
            "next_generation": recorded_as(document.next_generation),
            "next_pages_done": recorded_as(document.next_pages_done),
            "codes_format": recorded_as(document.codes_format),
        }
        changed = await self._documents.update_one(same, {"$set": {"codes_format": codes_format}})
        return bool(changed.matched_count)
