"""The ledger: who works on which document. Every change of state is one compare-and-set in the database.

Leases end by the database's clock, never by a worker's. Their times are kept as int64 milliseconds and compared with
`$toLong` of `$$NOW`, because not every server that speaks this protocol compares dates with `$$NOW` rightly.
"""

from __future__ import annotations

from typing import Any, Final

from motor.motor_asyncio import AsyncIOMotorCollection
from pymongo import ReturnDocument

from ingestion.adapters.mongo_records import Record, document_of, translated
from ingestion.errors import Conflict, LeaseHeld, LeaseLost, NotFound
from ingestion.model import Document, DocumentState, Failure, sources_of

_NOW_MS: Final = {"$toLong": "$$NOW"}
_NO_LEASE: Final = {"owner": "", "lease_until": 0}


class MongoLedger:
    """The part of the document store that moves documents from state to state. `_documents` is set on opening."""

    _documents: AsyncIOMotorCollection[dict[str, Any]]

    @translated
    async def mark_queued(self, document_id: str) -> None:
        queued_if_received = {
            "$cond": [{"$eq": ["$state", DocumentState.RECEIVED]}, DocumentState.QUEUED.value, "$state"]
        }
        await self._change({"_id": document_id}, {"outbox": "sent", "state": queued_if_received})

    @translated
    async def requeue(self, document_id: str) -> bool:
        found = {"_id": document_id, "state": DocumentState.FAILED}
        fresh = {"state": DocumentState.QUEUED, "outbox": "pending", "attempts": 0, "error": None, **_NO_LEASE}
        return await self._change(found, fresh) is not None

    @translated
    async def claim(self, document_id: str, owner: str, lease_ms: int) -> Document:
        claimable = {
            "_id": document_id,
            "state": {"$in": sources_of(DocumentState.PROCESSING)},
            "$expr": {"$lte": ["$lease_until", _NOW_MS]},
        }
        taken = {
            "state": DocumentState.PROCESSING,
            "owner": {"$literal": owner},
            "lease_until": _ends_in(lease_ms),
            "attempts": {"$add": ["$attempts", 1]},
            "fence": {"$add": ["$fence", 1]},
        }
        record = await self._change(claimable, taken)
        if record is None:
            await self._raise_unclaimable(document_id)
            raise LeaseHeld(document_id, retry_in_s=0.0)
        return document_of(record)

    async def _raise_unclaimable(self, document_id: str) -> None:
        """Why a claim got nothing. Returns where the lease ended between the claim and this question."""
        remaining = {"$subtract": ["$lease_until", _NOW_MS]}
        pipeline: list[Record] = [
            {"$match": {"_id": document_id}},
            {"$project": {"state": 1, "remaining_ms": remaining}},
        ]
        found = await self._documents.aggregate(pipeline).to_list(1)
        if not found:
            raise NotFound(f"there is no document {document_id}")
        state, remaining_ms = found[0]["state"], int(found[0]["remaining_ms"])
        if state not in sources_of(DocumentState.PROCESSING):
            raise Conflict(f"document {document_id} is {state}: there is nothing to work on")
        if remaining_ms > 0:
            raise LeaseHeld(document_id, retry_in_s=remaining_ms / 1000)

    @translated
    async def extend(self, document_id: str, fence: int, lease_ms: int) -> None:
        await self._change_held(document_id, fence, {"lease_until": _ends_in(lease_ms)})

    @translated
    async def plan(self, document_id: str, fence: int, *, dpi: int, stage: str) -> None:
        await self._change_held(document_id, fence, {"dpi": dpi, "stage": {"$literal": stage}})

    @translated
    async def checkpoint(self, document_id: str, fence: int, pages_done: int) -> None:
        await self._change_held(document_id, fence, {"pages_done": pages_done})

    @translated
    async def finish(self, document_id: str, fence: int) -> Document:
        verdict = {"stage": "", "error": None, "ready_at": "$$NOW"}
        return await self._leave(document_id, fence, DocumentState.READY, verdict)

    @translated
    async def fail(self, document_id: str, fence: int, failure: Failure) -> Document:
        cause = {"code": failure.code, "stage": failure.stage, "message": failure.message}
        verdict = {"stage": {"$literal": failure.stage}, "error": {"$literal": cause}}
        return await self._leave(document_id, fence, DocumentState.FAILED, verdict)

    @translated
    async def release(self, document_id: str, fence: int) -> None:
        uncounted = {"attempts": {"$subtract": ["$attempts", 1]}}
        await self._leave(document_id, fence, DocumentState.QUEUED, uncounted)

    @translated
    async def begin_delete(self, document_id: str) -> Document:
        deletable = {"_id": document_id, "state": {"$in": sources_of(DocumentState.DELETING)}}
        record = await self._change(
            deletable, {"state": DocumentState.DELETING, "fence": {"$add": ["$fence", 1]}, **_NO_LEASE}
        )
        record = record or await self._documents.find_one({"_id": document_id})
        if record is None:
            raise NotFound(f"there is no document {document_id}")
        return document_of(record)

    async def _leave(self, document_id: str, fence: int, target: DocumentState, changes: dict[str, Any]) -> Document:
        """Give the document up, into state `target`."""
        assert DocumentState.PROCESSING in sources_of(target)
        return await self._change_held(document_id, fence, {"state": target, **changes, **_NO_LEASE})

    async def _change_held(self, document_id: str, fence: int, changes: dict[str, Any]) -> Document:
        """Change the document while its fence still is `fence` and nobody has given it up. Raises LeaseLost."""
        held = {"_id": document_id, "fence": fence, "state": DocumentState.PROCESSING}
        record = await self._change(held, changes)
        if record is None:
            raise LeaseLost(f"document {document_id} is no longer held under fence {fence}")
        return document_of(record)

    async def _change(self, condition: dict[str, Any], changes: dict[str, Any]) -> Record | None:
        """The one way in which a document changes: an update pipeline, atomic; returns the changed record.

        Always ask for the record after the change: the one before it was seen stale under concurrency.
        """
        record: Record | None = await self._documents.find_one_and_update(
            condition, [{"$set": {**changes, "updated_at": "$$NOW"}}], return_document=ReturnDocument.AFTER
        )
        return record


def _ends_in(lease_ms: int) -> dict[str, Any]:
    return {"$add": [_NOW_MS, lease_ms]}
