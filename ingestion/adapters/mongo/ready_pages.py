"""List the ready pages of a collection."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from typing import Any, Final

from ingestion.adapters.mongo.database import MongoPort, aggregated
from ingestion.adapters.mongo.document_mapping import document_of
from ingestion.adapters.mongo.errors import translated
from ingestion.adapters.mongo.fields import MongoRecord
from ingestion.adapters.mongo.filter_queries import FIELD_OF, query_of
from ingestion.adapters.mongo.revisions import NOT_REPLACED, newest_of_keys
from ingestion.filters import Filter, matches
from ingestion.filters.expression import FIELDS
from ingestion.model import SIGN_CODE_FORMAT, TERM_FORMAT, Document, DocumentState, TextPages, newest_versions
from ingestion.ports import PageRange

_UNUSED: Final = dict.fromkeys(("story", "error", "metadata", "tags"), 0)
_FILTERABLE: Final = {FIELD_OF.get(name, name): 1 for name in (*FIELDS, "metadata", "first_page_key")}


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
    async def ready_page_ranges(
        self, collection: str, generation: int, where: Filter | None = None
    ) -> Sequence[PageRange]:
        """The newest version of a key decides, also where only a former one matches: it is read after the matches."""
        wanted: dict[str, Any] = {"collection": collection, "state": DocumentState.READY, **NOT_REPLACED}
        if where is not None:
            wanted["$and"] = [query_of(where)]
        found = await self._documents.find(wanted, _UNUSED).sort("first_page_key", 1).to_list(None)
        documents = [document for document in map(document_of, found) if _is_visible(document, generation)]
        keys = {document.key for document in documents if document.key}
        if where is not None and keys:
            versions = await newest_of_keys(self._documents, collection, list(keys))
            newest = newest_versions(one for one in versions if _is_visible(one, generation))
            documents = [one for one in documents if not one.key] + [one for one in newest if matches(where, one)]
            documents.sort(key=lambda one: one.first_page_key)
        return [_range_of(document) for document in newest_versions(documents)]

    @translated
    async def filterable_documents(self, collection: str, *, after: int, limit: int) -> Sequence[Document]:
        wanted = {"collection": collection, "first_page_key": {"$gt": after}, "state": DocumentState.READY}
        found = await self._documents.find(wanted, _FILTERABLE).sort("first_page_key", 1).limit(limit).to_list(None)
        return [document_of(record) for record in found]

    @translated
    async def newest_of_keys(self, collection: str, keys: Collection[str]) -> Mapping[str, Document]:
        versions = await newest_of_keys(self._documents, collection, list(keys))
        return {document.key: document for document in newest_versions(one for one in versions if one.is_readable)}


def _is_visible(document: Document, generation: int) -> bool:
    return document.is_readable and document.is_in(generation)


def _range_of(document: Document) -> PageRange:
    return PageRange(
        document.id,
        document.first_page_key,
        document.pages,
        has_codes=document.codes_format == SIGN_CODE_FORMAT,
        has_terms=document.terms_format == TERM_FORMAT,
    )
