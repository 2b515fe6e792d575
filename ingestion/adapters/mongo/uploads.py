"""The steps of an upload in MongoDB. Uploads that arrive together share a request for each step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import accumulate
from typing import Any, Final

from motor.motor_asyncio import AsyncIOMotorCollection
from pymongo import ReturnDocument, UpdateOne
from pymongo.errors import BulkWriteError

from ingestion.adapters.mongo.collections import require_active
from ingestion.adapters.mongo.inventory import PAGE_KEYS
from ingestion.adapters.mongo.records import DEPENDENCY, document_of, record_of, translated
from ingestion.concurrency.request_batching import RequestBatcher
from ingestion.errors import BadRequest, CollectionArchived, WorkerFault
from ingestion.model import Document, DocumentState

_DUPLICATE: Final = 11_000


class MongoArrivals:
    """The part of DocumentStore that takes documents in."""

    _documents: AsyncIOMotorCollection[dict[str, Any]]
    _collections: AsyncIOMotorCollection[dict[str, Any]]
    _counters: AsyncIOMotorCollection[dict[str, Any]]

    def __init__(self) -> None:
        self._inserts: RequestBatcher[Document, bool] = RequestBatcher(self._insert_all, dependency=DEPENDENCY)
        self._reservations: RequestBatcher[int, int] = RequestBatcher(self._reserve_all, dependency=DEPENDENCY)
        self._reads: RequestBatcher[str, Document | None] = RequestBatcher(self._get_all, dependency=DEPENDENCY)
        self._publications: RequestBatcher[Document, None] = RequestBatcher(self._mark_all, dependency=DEPENDENCY)
        self._checks: RequestBatcher[str, None] = RequestBatcher(self._check_all, dependency=DEPENDENCY)

    async def insert(self, document: Document) -> bool:
        return await self._inserts.call(document)

    async def reserve_page_keys(self, count: int) -> int:
        if count < 1:
            raise BadRequest(f"cannot reserve {count} page keys")
        return await self._reservations.call(count)

    async def get(self, document_id: str) -> Document | None:
        return await self._reads.call(document_id)

    async def mark_queued(self, document: Document) -> None:
        await self._publications.call(document)

    async def require_active(self, collection: str) -> None:
        await self._checks.call(collection)

    @translated
    async def _insert_all(self, documents: Sequence[Document]) -> list[bool]:
        now = datetime.now(UTC)
        records = [
            record_of(replace(one, state=DocumentState.RECEIVED, outbox="pending", created_at=now, updated_at=now))
            for one in documents
        ]
        inserted = [True] * len(documents)
        try:
            await self._documents.insert_many(records, ordered=False)
        except BulkWriteError as error:
            failed = (error.details or {}).get("writeErrors", [])
            if not failed or any(one["code"] != _DUPLICATE for one in failed):
                raise
            for one in failed:
                inserted[one["index"]] = False
        return inserted

    @translated
    async def _reserve_all(self, counts: Sequence[int]) -> list[int]:
        total = sum(counts)
        counter = await self._counters.find_one_and_update(
            {"_id": PAGE_KEYS},
            {"$inc": {"next": total}},
            # The record before the change was seen stale under concurrency, on a server that is exact after it.
            return_document=ReturnDocument.AFTER,
        )
        if counter is None:
            raise WorkerFault("the counter of page keys is missing: the database has not been prepared")
        ends = accumulate(counts, initial=int(counter["next"]) - total)
        return list(ends)[:-1]

    @translated
    async def _get_all(self, ids: Sequence[str]) -> list[Document | None]:
        found = await self._documents.find({"_id": {"$in": list(ids)}}).to_list(None)
        documents = {record["_id"]: document_of(record) for record in found}
        return [documents.get(id_) for id_ in ids]

    @translated
    async def _mark_all(self, documents: Sequence[Document]) -> list[None]:
        queued_if_received = {
            "$cond": [{"$eq": ["$state", DocumentState.RECEIVED]}, DocumentState.QUEUED.value, "$state"]
        }
        update = [{"$set": {"outbox": "sent", "state": queued_if_received, "updated_at": "$$NOW"}}]
        await self._documents.bulk_write(
            [UpdateOne({"_id": one.id, "first_page_key": one.first_page_key}, update) for one in documents],
            ordered=False,
        )
        return [None] * len(documents)

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
