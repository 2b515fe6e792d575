"""The generations of a collection's vectors in MongoDB: the current one, the next one and those that are removed.

A collection's record holds:
- `embedder`, `dim` and `generation` of the current generation;
- `next`: {generation, embedder, dim, closing, started_at};
- `leaving`: a list of {generation, embedder, dim, free_at};
- `retired`: the fingerprints of former embedders;
- `last_generation`: the highest number that was ever given.

A record without these fields, from a release without generations, is of the first generation. A page's record holds in
`next` its counts of patches and rows in the next generation.
"""

from __future__ import annotations

import secrets
from typing import Final

from pymongo import ReturnDocument

from ingestion.adapters.mongo.collection_mapping import binding_of, require_active
from ingestion.adapters.mongo.collection_versions import changed_version
from ingestion.adapters.mongo.database import MongoPort, aggregated
from ingestion.adapters.mongo.errors import translated
from ingestion.adapters.mongo.expressions import NOW_MS, ms_from_now
from ingestion.adapters.mongo.fields import MongoRecord
from ingestion.catalogue.generations import FIRST, Binding
from ingestion.catalogue.states import CollectionState
from ingestion.errors import Conflict, NotFound

NUMBER: Final = {"$ifNull": ["$generation", FIRST]}
_LEAVING: Final = {"$ifNull": ["$leaving", []]}


class MongoGenerations(MongoPort):
    """Implements the port Generations."""

    @translated
    async def begin_generation(self, collection: str, fingerprint: str, dim: int) -> Binding:
        number = {"$add": [{"$ifNull": ["$last_generation", NUMBER]}, 1]}
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
        former = {"generation": NUMBER, "embedder": "$embedder", "dim": "$dim", "free_at": ms_from_now(rest_ms)}
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
            raise Conflict(f"collection {collection!r} was changed by another process shortly before the switch")
        return binding_of(record)

    @translated
    async def abandon_generation(self, collection: str) -> Binding:
        coming = {
            "generation": "$next.generation",
            "embedder": "$next.embedder",
            "dim": "$next.dim",
            "free_at": NOW_MS,
        }
        begun = {"_id": collection, "next": {"$ne": None}}
        await self._change_binding(begun, {"leaving": {"$concatArrays": [_LEAVING, [coming]]}, "next": None})
        return await self._bound(collection)

    @translated
    async def rest_of_leaving_s(self, collection: str) -> float:
        pipeline: list[MongoRecord] = [
            {"$match": {"_id": collection}},
            {"$project": {"until": {"$max": "$leaving.free_at"}, "now": NOW_MS}},
        ]
        found = await aggregated(self._collections, pipeline, limit=1)
        if not found or found[0].get("until") is None:
            return 0.0
        return max(0, int(found[0]["until"]) - int(found[0]["now"])) / 1000

    @translated
    async def forget_leaving(self, collection: str, generation: int) -> None:
        await self._collections.update_one({"_id": collection}, {"$pull": {"leaving": {"generation": generation}}})

    async def _change_binding(self, condition: MongoRecord, changes: MongoRecord) -> MongoRecord | None:
        record: MongoRecord | None = await self._collections.find_one_and_update(
            condition, [{"$set": changes}], return_document=ReturnDocument.AFTER
        )
        return record

    async def _bound(self, collection: str) -> Binding:
        record = await self._collections.find_one({"_id": collection})
        if record is None:
            raise NotFound(f"there is no collection {collection!r}")
        return binding_of(record)
