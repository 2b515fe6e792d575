"""Record how far the re-embedding of each document of a collection has come."""

from __future__ import annotations

from pymongo import ReturnDocument

from ingestion.adapters.mongo.database import MongoPort, aggregated
from ingestion.adapters.mongo.document_changes import NO_LEASE, event, pipeline_stage
from ingestion.adapters.mongo.document_mapping import document_of
from ingestion.adapters.mongo.errors import translated
from ingestion.adapters.mongo.fields import MongoRecord
from ingestion.adapters.mongo.generations import NUMBER
from ingestion.catalogue.generations import GenerationTotals
from ingestion.errors import Conflict
from ingestion.model import Document, DocumentState


class MongoReembeddingRecords(MongoPort):
    """Implements the port ReembeddingRecords."""

    @translated
    async def missing_from(self, collection: str, generation: int, *, after: str, limit: int) -> list[Document]:
        wanted = {"collection": collection, "state": DocumentState.READY, "_id": {"$gt": after}}
        missing = {**wanted, "$expr": {"$not": [_is_in(generation)]}}
        found = await self._documents.find(missing).sort("_id", 1).limit(limit).to_list(None)
        documents = [document_of(record) for record in found]
        for document in documents:  # a switch to a generation that lacks a document would lose it
            document.require_readable()
        return documents

    @translated
    async def generation_totals(self, collection: str, generation: int) -> GenerationTotals:
        is_in = _is_in(generation)
        begun = {"$cond": [{"$eq": ["$next_generation", generation]}, "$next_pages_done", 0]}
        pipeline: list[MongoRecord] = [
            {"$match": {"collection": collection, "state": DocumentState.READY}},
            {
                "$group": {
                    "_id": None,
                    "documents": {"$sum": 1},
                    "documents_done": {"$sum": {"$cond": [is_in, 1, 0]}},
                    "pages": {"$sum": "$pages"},
                    "pages_done": {"$sum": {"$cond": [is_in, "$pages", begun]}},
                }
            },
        ]
        found = await aggregated(self._documents, pipeline, limit=1)
        if not found:
            return GenerationTotals(0, 0, 0, 0)
        names = ("documents", "documents_done", "pages", "pages_done")
        return GenerationTotals(*(int(found[0][name]) for name in names))

    @translated
    async def advance(self, document: Document, generation: int, pages_done: int) -> None:
        same = {"_id": document.id, "state": DocumentState.READY, "first_page_key": document.first_page_key}
        found = await self._documents.update_one(
            same, {"$set": {"next_generation": generation, "next_pages_done": pages_done}}
        )
        if not found.matched_count:
            raise Conflict(f"document {document.id} was deleted, or uploaded again, while it was re-embedded")

    @translated
    async def settle(self, document: Document, current: int) -> None:
        if not document.next_generation:
            return
        pages = {"document_id": document.id, "next.generation": document.next_generation}
        same = {
            "_id": document.id,
            "first_page_key": document.first_page_key,
            "next_generation": document.next_generation,
        }
        changes: dict[str, int] = {"next_generation": 0, "next_pages_done": 0}
        if document.next_generation == current and document.is_in(current):
            moved = {"patches": "$next.patches", "rows": "$next.rows"}
            await self._pages.update_many(pages, [{"$set": moved}])
            changes["generation"] = current
            if document.text_pages is not None:
                without_vectors = {"document_id": document.id, "patches": 0}
                changes["text_pages.unsearchable"] = await self._pages.count_documents(without_vectors)
        await self._pages.update_many(pages, {"$unset": {"next": ""}})
        await self._documents.update_one(same, {"$set": changes})

    @translated
    async def fence_off(self, collection: str) -> list[Document]:
        held = {"collection": collection, "state": DocumentState.PROCESSING}
        freed = {
            "state": DocumentState.QUEUED,
            "outbox": "pending",
            "fence": {"$add": ["$fence", 1]},
            "attempts": {"$max": [0, {"$subtract": ["$attempts", 1]}]},
            **NO_LEASE,
            **event("taken back for another embedder"),
        }
        fenced = []
        while record := await self._documents.find_one_and_update(
            held, [pipeline_stage(freed)], return_document=ReturnDocument.AFTER
        ):
            fenced.append(document_of(record))
        return fenced


def _is_in(generation: int) -> MongoRecord:
    """Return `Document.is_in` as an aggregation expression."""
    is_moved = {"$and": [{"$eq": ["$next_generation", generation]}, {"$eq": ["$next_pages_done", "$pages"]}]}
    return {"$or": [{"$eq": [NUMBER, generation]}, is_moved]}
