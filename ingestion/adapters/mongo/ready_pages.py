"""List the ready pages of a collection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from ingestion.adapters.mongo.database import MongoPort, aggregated
from ingestion.adapters.mongo.document_mapping import document_of
from ingestion.adapters.mongo.errors import translated
from ingestion.adapters.mongo.fields import MongoRecord
from ingestion.model import SIGN_CODE_FORMAT, DocumentState, TextPages
from ingestion.ports import PageRange


class MongoReadyPages(MongoPort):
    """Implements the port ReadyPages."""

    @translated
    async def count_ready_pages(self, collection: str) -> int:
        pipeline: list[MongoRecord] = [
            {"$match": {"collection": collection, "state": DocumentState.READY}},
            {"$group": {"_id": None, "pages": {"$sum": "$pages"}}},
        ]
        found = await aggregated(self._documents, pipeline, limit=1)
        return int(found[0]["pages"]) if found else 0

    @translated
    async def count_text_pages(self, collection: str) -> TextPages:
        names = [field.name for field in fields(TextPages)]
        pipeline: list[MongoRecord] = [
            {"$match": {"collection": collection, "state": DocumentState.READY}},
            {"$group": {"_id": None, **{name: {"$sum": f"$text_pages.{name}"} for name in names}}},
        ]
        found = await aggregated(self._documents, pipeline, limit=1)
        return TextPages(**{name: int(found[0][name]) for name in names}) if found else TextPages()

    @translated
    async def ready_page_ranges(self, collection: str, generation: int) -> Sequence[PageRange]:
        wanted = {"collection": collection, "state": DocumentState.READY}
        found = await self._documents.find(wanted, {"story": 0, "error": 0}).sort("first_page_key", 1).to_list(None)
        return [
            PageRange(
                document.id,
                document.first_page_key,
                document.pages,
                has_codes=document.codes_format == SIGN_CODE_FORMAT,
            )
            for document in map(document_of, found)
            if document.is_readable and document.is_in(generation)
        ]
