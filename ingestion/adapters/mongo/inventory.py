"""Read records and totals for the audit."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from ingestion.adapters.mongo.database import MongoPort, aggregated
from ingestion.adapters.mongo.document_mapping import document_of, pages_of
from ingestion.adapters.mongo.errors import translated
from ingestion.adapters.mongo.fields import MongoRecord
from ingestion.catalogue.generations import FIRST
from ingestion.model import Document, PageRecord
from ingestion.ports import PageTotals

PAGE_KEYS: Final = "page_keys"
"""The counter that page keys are reserved from."""
_ROWS: Final = {"$ifNull": ["$rows", "$patches"]}


class MongoRecordInventory(MongoPort):
    """Implements the port RecordInventory."""

    @translated
    async def next_page_key(self) -> int:
        counter = await self._counters.find_one({"_id": PAGE_KEYS})
        return 0 if counter is None else int(counter["next"])

    @translated
    async def collections_of_documents(self) -> list[str]:
        return sorted(name for name in await self._documents.distinct("collection") if isinstance(name, str))

    @translated
    async def by_page_key(self, collection: str, *, after: int, limit: int) -> list[Document]:
        wanted = {"collection": collection, "first_page_key": {"$gt": after}}
        found = await self._documents.find(wanted).sort("first_page_key", 1).limit(limit).to_list(None)
        return [document_of(record) for record in found]

    @translated
    async def pages_after(self, page_key: int, limit: int) -> list[PageRecord]:
        wanted = {"_id": {"$gt": page_key}}
        while (
            found := await self._pages.find(wanted, {"text": 0, "words": 0}).sort("_id", 1).limit(limit).to_list(None)
        ):
            if pages := list(pages_of(found)):
                return pages
            wanted = {"_id": {"$gt": found[-1]["_id"]}}  # the caller takes an empty answer for the end
        return []

    @translated
    async def page_totals(self, document_ids: Collection[str], generation: int = FIRST) -> dict[str, PageTotals]:
        rows = {"$cond": [{"$eq": ["$next.generation", generation]}, "$next.rows", _ROWS]}
        pipeline: list[MongoRecord] = [
            {"$match": {"document_id": {"$in": list(document_ids)}}},
            {"$group": {"_id": "$document_id", "pages": {"$sum": 1}, "rows": {"$sum": rows}}},
        ]
        found = await aggregated(self._pages, pipeline)
        return {total["_id"]: PageTotals(int(total["pages"]), int(total["rows"])) for total in found}
