"""Read the records of collections."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime

import structlog

from ingestion.adapters.mongo.collection_mapping import binding_of, collection_of, require_active
from ingestion.adapters.mongo.database import Database, MongoPort, aggregated
from ingestion.adapters.mongo.document_mapping import UNREADABLE, recorded_tenant
from ingestion.adapters.mongo.errors import DEPENDENCY, translated
from ingestion.adapters.mongo.fields import MongoRecord
from ingestion.catalogue.states import CollectionRecord, CollectionTotals
from ingestion.concurrency.request_batching import RequestBatcher
from ingestion.errors import BadRecord, CollectionArchived
from ingestion.model import DocumentState

log = structlog.get_logger(__name__)


class MongoCollectionCatalogue(MongoPort):
    """Implements the port CollectionCatalogue."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._checks: RequestBatcher[str, None] = RequestBatcher(self._check_all, dependency=DEPENDENCY)

    @translated
    async def collection(self, collection: str) -> CollectionRecord | None:
        record = await self._collections.find_one({"_id": collection})
        return None if record is None else collection_of(record)

    @translated
    async def collection_records(self) -> list[CollectionRecord]:
        found = []
        for record in await self._collections.find({}).sort("_id", 1).to_list(None):
            try:
                found.append(collection_of(record))
            except BadRecord as error:
                log.warning("record left out", cause=error.message)
        return found

    @translated
    async def collections(self) -> Sequence[str]:
        bound = await self._collections.find({}, {"_id": 1}).sort("_id", 1).to_list(None)
        return [str(record["_id"]) for record in bound]

    @translated
    async def collection_fingerprint(self, collection: str) -> str | None:
        bound = await self._collections.find_one({"_id": collection})
        return None if bound is None else binding_of(bound).current.fingerprint

    @translated
    async def collection_totals(self, tenant: str | None = None) -> dict[str, CollectionTotals]:
        is_ready = {"$eq": ["$state", DocumentState.READY]}
        pipeline: list[MongoRecord] = [
            *([] if tenant is None else [{"$match": {"tenant": recorded_tenant(tenant)}}]),
            {
                "$group": {
                    "_id": {"collection": "$collection", "state": "$state"},
                    "documents": {"$sum": 1},
                    "pages": {"$sum": {"$cond": [is_ready, "$pages", "$pages_done"]}},
                    "source_bytes": {"$sum": "$size_bytes"},
                }
            },
        ]
        totals: dict[str, CollectionTotals] = {}
        for group in await aggregated(self._documents, pipeline):
            name, state = (str(group["_id"].get(field, UNREADABLE)) for field in ("collection", "state"))
            known = totals.setdefault(name, CollectionTotals())
            known.documents[state] += int(group["documents"])
            totals[name] = CollectionTotals(
                known.documents, known.pages + int(group["pages"]), known.source_bytes + int(group["source_bytes"])
            )
        return totals

    async def require_active(self, collection: str) -> None:
        await self._checks.call(collection)

    @translated
    async def touch_collections(self, collections: Collection[str]) -> None:
        await self._collections.update_many(
            {"_id": {"$in": list(collections)}}, {"$set": {"last_used_at": datetime.now(UTC)}}
        )

    @translated
    async def _check_all(self, collections: Sequence[str]) -> list[Exception | None]:
        found = await self._collections.find({"_id": {"$in": list(set(collections))}}, {"state": 1}).to_list(None)
        archived: dict[str, Exception] = {}
        for record in found:
            try:
                require_active(record)
            except CollectionArchived as error:
                archived[record["_id"]] = error
        return [archived.get(one) for one in collections]
