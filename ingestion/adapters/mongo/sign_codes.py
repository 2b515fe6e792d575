"""Read and record which documents have sign codes."""

from __future__ import annotations

from typing import Any

from ingestion.adapters.mongo.database import MongoPort
from ingestion.adapters.mongo.document_mapping import document_of
from ingestion.adapters.mongo.errors import translated
from ingestion.catalogue.generations import FIRST
from ingestion.model import SIGN_CODE_FORMAT, Document, DocumentState


class MongoSignCodeRecords(MongoPort):
    """Implements the port SignCodeRecords."""

    @translated
    async def without_codes(self, limit: int, *, after: str = "", collection: str | None = None) -> list[Document]:
        wanted = {**_without_codes(collection), "_id": {"$gt": after}}
        found = await self._documents.find(wanted, {"story": 0}).sort("_id", 1).limit(limit).to_list(None)
        return [document_of(record) for record in found]

    @translated
    async def count_without_codes(self, limit: int, *, collection: str | None = None) -> int:
        return int(await self._documents.count_documents(_without_codes(collection), limit=limit))

    @translated
    async def set_codes_format(self, document: Document, codes_format: int) -> bool:
        same = {
            "_id": document.id,
            "state": DocumentState.READY.value,
            "first_page_key": document.first_page_key,
            "generation": _recorded(document.generation, FIRST),
            "next_generation": _recorded(document.next_generation),
            "next_pages_done": _recorded(document.next_pages_done),
            "codes_format": _recorded(document.codes_format),
        }
        changed = await self._documents.update_one(same, {"$set": {"codes_format": codes_format}})
        return bool(changed.matched_count)


def _without_codes(collection: str | None) -> dict[str, Any]:
    """Formats of newer releases are left alone. A record of an earlier release has no format."""
    earlier = [None, *range(SIGN_CODE_FORMAT)]
    wanted: dict[str, Any] = {"state": DocumentState.READY.value, "codes_format": {"$in": earlier}}
    return wanted if collection is None else {**wanted, "collection": collection}


def _recorded(value: int, default: int = 0) -> Any:
    """The condition for a field that records of earlier releases lack where it has its default."""
    return {"$in": [None, value]} if value == default else value
