"""The generations of a collection's vectors, in MongoDB: which one is searched, and how far the next one has come.

A collection's record holds `{embedder, dim, generation}` of the current generation and, besides, `next` {generation,
embedder, dim, closing, started_at}, `leaving`, a list of {generation, embedder, dim, free_at}, `retired`, the
fingerprints of former ones, and `last_generation`, the highest number that was ever given. Records from before there
were generations lack all of these and are of the first. A page's record holds in `next` what it comes to in the coming
generation.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any, Final

from motor.motor_asyncio import AsyncIOMotorCollection
from pymongo import ReturnDocument, UpdateOne
from pymongo.errors import DuplicateKeyError

from ingestion.adapters.mongo.bindings import binding_of
from ingestion.adapters.mongo.collections import require_active
from ingestion.adapters.mongo.records import Record, document_of, translated
from ingestion.adapters.mongo.version_changes import changed_version
from ingestion.catalogue.generations import FIRST, Binding, GenerationTotals, PageSize
from ingestion.catalogue.states import CollectionState
from ingestion.errors import Conflict, NotFound
from ingestion.model import Document, DocumentState

_NOW_MS: Final = {"$toLong": "$$NOW"}
_NUMBER: Final = {"$ifNull": ["$generation", FIRST]}
_LEAVING: Final = {"$ifNull": ["$leaving", []]}


class MongoGenerations:
    """A part of the document store. Its collections are set on opening."""

    _collections: AsyncIOMotorCollection[dict[str, Any]]
    _documents: AsyncIOMotorCollection[dict[str, Any]]
    _pages: AsyncIOMotorCollection[dict[str, Any]]

    @translated
    async def binding(self, collection: str) -> Binding | None:
        return await self._binding(collection)

    @translated
    async def bind_collection(self, collection: str, fingerprint: str, dim: int) -> Binding:
        while (record := await self._collections.find_one({"_id": collection})) is None:
            try:
                await self._collections.insert_one({"_id": collection, "embedder": fingerprint, "dim": dim})
            except DuplicateKeyError:
                continue  # Somebody else was first, perhaps with another embedder.
        require_active(record)
        bound = binding_of(record)
        bound.require_current(fingerprint, dim)
        return bound

    @translated
    async def begin_generation(self, collection: str, fingerprint: str, dim: int) -> Binding:
        number = {"$add": [{"$ifNull": ["$last_generation", _NUMBER]}, 1]}
        coming = {
            "generation": number,
            "embedder": {"$literal": fingerprint},
            "dim": dim,
            "closing": "",
            "started_at": "$$NOW",
        }
        is_active = {"$in": [None, CollectionState.ACTIVE.value]}
        free = {"_id": collection, "next": None, "embedder": {"$ne": fingerprint}, "state": is_active}
        await self._change_binding(free, {"last_generation": number, "next": coming})
        begun = {"_id": collection, "next.embedder": fingerprint, "next.dim": dim}
        await self._collections.update_one(begun, {"$set": {"next.closing": ""}})
        bound = await self._bound(collection)
        if bound.next is None:
            require_active(await self._collections.find_one({"_id": collection}) or {"_id": collection})
            raise Conflict(f"collection {collection!r} holds vectors of {fingerprint!r} already")
        if bound.next.fingerprint != fingerprint:
            raise Conflict(
                f"collection {collection!r} is being re-embedded with {bound.next.fingerprint!r}: "
                "finish that, or abort it, first"
            )
        return bound

    @translated
    async def close_generation(self, collection: str, generation: int) -> str:
        closing = secrets.token_hex(8)
        coming = {"_id": collection, "next.generation": generation}
        found = await self._collections.update_one(coming, {"$set": {"next.closing": closing}})
        if not found.matched_count:
            raise Conflict(f"generation {generation} of collection {collection!r} has been abandoned, or taken over")
        return closing

    @translated
    async def open_generation(self, collection: str, closing: str) -> None:
        await self._collections.update_one(
            {"_id": collection, "next.closing": closing}, {"$set": {"next.closing": ""}}
        )

    @translated
    async def switch_generation(self, collection: str, generation: int, closing: str, rest_ms: int) -> Binding:
        former = {"generation": _NUMBER, "embedder": "$embedder", "dim": "$dim", "free_at": _in_ms(rest_ms)}
        taken_over = {
            "generation": "$next.generation",
            "embedder": "$next.embedder",
            "dim": "$next.dim",
            "retired": {"$setUnion": [{"$ifNull": ["$retired", []]}, ["$embedder"]]},
            "leaving": {"$concatArrays": [_LEAVING, [former]]},
            "next": None,
            "version": changed_version(),
        }
        closed = {"_id": collection, "next.generation": generation, "next.closing": closing}
        record = await self._change_binding(closed, taken_over)
        if record is None:
            raise Conflict(f"collection {collection!r} was changed by somebody else shortly before the switch")
        return binding_of(record)

    @translated
    async def abandon_generation(self, collection: str) -> Binding:
        coming = {
            "generation": "$next.generation",
            "embedder": "$next.embedder",
            "dim": "$next.dim",
            "free_at": _NOW_MS,
        }
        begun = {"_id": collection, "next": {"$ne": None}}
        await self._change_binding(begun, {"leaving": {"$concatArrays": [_LEAVING, [coming]]}, "next": None})
        return await self._bound(collection)

    @translated
    async def rest_of_leaving_s(self, collection: str) -> float:
        pipeline: list[Record] = [
            {"$match": {"_id": collection}},
            {"$project": {"until": {"$max": "$leaving.free_at"}, "now": _NOW_MS}},
        ]
        found = await self._collections.aggregate(pipeline).to_list(1)
        if not found or found[0].get("until") is None:
            return 0.0
        return max(0, int(found[0]["until"]) - int(found[0]["now"])) / 1000

    @translated
    async def forget_leaving(self, collection: str, generation: int) -> None:
        await self._collections.update_one({"_id": collection}, {"$pull": {"leaving": {"generation": generation}}})

    @translated
    async def missing_from(self, collection: str, generation: int, *, after: str, limit: int) -> list[Document]:
        wanted = {"collection": collection, "state": DocumentState.READY, "_id": {"$gt": after}}
        missing = {**wanted, "$expr": {"$not": [_is_in(generation)]}}
        found = await self._documents.find(missing).sort("_id", 1).limit(limit).to_list(None)
        documents = [document_of(record) for record in found]
        for document in documents:  # a generation without one of its documents must not be switched to
            document.require_readable()
        return documents

    @translated
    async def generation_totals(self, collection: str, generation: int) -> GenerationTotals:
        is_in = _is_in(generation)
        begun = {"$cond": [{"$eq": ["$next_generation", generation]}, "$next_pages_done", 0]}
        pipeline: list[Record] = [
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
        found = await self._documents.aggregate(pipeline).to_list(1)
        if not found:
            return GenerationTotals(0, 0, 0, 0)
        names = ("documents", "documents_done", "pages", "pages_done")
        return GenerationTotals(*(int(found[0][name]) for name in names))

    @translated
    async def put_page_sizes(self, generation: int, sizes: Sequence[PageSize]) -> None:
        changes = [
            UpdateOne(
                {"_id": size.page_key},
                {"$set": {"next": {"generation": generation, "patches": size.patches, "rows": size.rows}}},
            )
            for size in sizes
        ]
        if changes:
            await self._pages.bulk_write(changes, ordered=False)

    @translated
    async def advance(self, document: Document, generation: int, pages_done: int) -> None:
        same = {"_id": document.id, "state": DocumentState.READY, "first_page_key": document.first_page_key}
        found = await self._documents.update_one(
            same, {"$set": {"next_generation": generation, "next_pages_done": pages_done}}
        )
        if not found.matched_count:
            raise Conflict(f"document {document.id} is no longer there to be re-embedded")

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
        changes = {"next_generation": 0, "next_pages_done": 0}
        if document.next_generation == current and document.is_in(current):
            moved = {"patches": "$next.patches", "rows": "$next.rows"}
            await self._pages.update_many(pages, [{"$set": moved}])
            changes["generation"] = current
        await self._pages.update_many(pages, {"$unset": {"next": ""}})
        await self._documents.update_one(same, {"$set": changes})

    async def _change_binding(self, condition: Record, changes: Record) -> Record | None:
        record: Record | None = await self._collections.find_one_and_update(
            condition, [{"$set": changes}], return_document=ReturnDocument.AFTER
        )
        return record

    async def _binding(self, collection: str) -> Binding | None:
        record = await self._collections.find_one({"_id": collection})
        return None if record is None else binding_of(record)

    async def _bound(self, collection: str) -> Binding:
        bound = await self._binding(collection)
        if bound is None:
            raise NotFound(f"there is no collection {collection!r}")
        return bound


def _is_in(generation: int) -> Record:
    """`Document.is_in` as an expression."""
    is_moved = {"$and": [{"$eq": ["$next_generation", generation]}, {"$eq": ["$next_pages_done", "$pages"]}]}
    return {"$or": [{"$eq": [_NUMBER, generation]}, is_moved]}


def _in_ms(rest_ms: int) -> Record:
    return {"$add": [_NOW_MS, rest_ms]}
