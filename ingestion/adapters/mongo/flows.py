"""The flows of waiting documents: one small record for each, and an index of the documents that wait.

A record of a flow is a hint. Where it is missing, a document of the flow waits for its own job.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable
from typing import Any

from bson.int64 import Int64
from pymongo import UpdateOne
from pymongo.errors import BulkWriteError

from ingestion.adapters.mongo.database import MongoCollection, MongoPort
from ingestion.adapters.mongo.document_mapping import document_of
from ingestion.adapters.mongo.errors import DUPLICATE, translated
from ingestion.model import Document, DocumentState, Flow


class MongoFlows(MongoPort):
    """Implements the port Flows."""

    @translated
    async def flows(self) -> dict[Flow, str]:
        records = await self._flows.find({}).to_list(None)
        found = {Flow.named(record["_id"]): str(record.get("mark")) for record in records}
        return {flow: mark for flow, mark in found.items() if flow is not None}

    @translated
    async def next_waiting(
        self, flow: Flow, limit: int, *, without_collections: Collection[str] = ()
    ) -> list[Document]:
        now_ms = Int64((await self._server_time()).timestamp() * 1000)
        wanted: dict[str, Any] = {"flow": flow.name, "state": DocumentState.QUEUED, "lease_until": {"$lte": now_ms}}
        if without_collections:
            wanted["collection"] = {"$nin": sorted(without_collections)}
        order = [("lease_until", 1), ("first_page_key", 1)]
        found = await self._documents.find(wanted, {"story": 0}).sort(order).limit(limit).to_list(None)
        return [document for document in map(document_of, found) if document.is_readable]

    @translated
    async def retire_flow(self, flow: Flow, mark: str) -> None:
        await self._flows.delete_one({"_id": flow.name, "mark": mark})

    @translated
    async def delivered(self, delivery: str, document_id: str) -> tuple[Document | None, Document | None]:
        records = await self._documents.find({"delivery": delivery}, {"story": 0}).limit(1).to_list(None)
        begun = document_of(records[0]) if records else None
        if begun is not None and begun.id == document_id:
            return begun, begun
        own = await self._documents.find_one({"_id": document_id}, {"story": 0})
        return begun, document_of(own) if own else None


async def note_queued(flows: MongoCollection, documents: Iterable[Document]) -> None:
    """Say that the flows of `documents` have waiting documents."""
    names = {document.flow.name for document in documents if document.priority is not None}
    mark = {"$set": {"mark": secrets.token_hex(6)}}
    if not names:
        return
    try:
        await flows.bulk_write([UpdateOne({"_id": name}, mark, upsert=True) for name in sorted(names)], ordered=False)
    except BulkWriteError as error:  # another process inserted the same flow at the same moment
        if any(one["code"] != DUPLICATE for one in (error.details or {}).get("writeErrors", [])):
            raise
