"""The ledger: who works on which document. Every change of state is one compare-and-set in the database.

Leases end by the database's clock, never by a worker's. Their times are kept as int64 milliseconds and compared with
`$toLong` of `$$NOW`, because not every server that speaks this protocol compares dates with `$$NOW` rightly.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import structlog
from motor.motor_asyncio import AsyncIOMotorCollection
from pymongo import ReturnDocument
from pymongo.errors import PyMongoError

from ingestion.adapters.mongo.fields import Reader
from ingestion.adapters.mongo.records import Record, document_of, translated
from ingestion.adapters.mongo.version_changes import begin_change, change_version, end_change
from ingestion.catalogue.generations import FIRST
from ingestion.errors import CollectionArchived, Conflict, LeaseHeld, LeaseLost, NotFound
from ingestion.model import OUTAGES_FORGIVEN, Document, DocumentState, Event, Failure, sources_of

log = structlog.get_logger(__name__)

_NOW_MS: Final = {"$toLong": "$$NOW"}
_IS_HELD: Final = {"$eq": ["$state", DocumentState.PROCESSING.value]}
_NO_LEASE: Final = {"owner": "", "lease_until": 0}
_LONGEST_STORY: Final = 50


class MongoLedger:
    """The part of the document store that moves documents from state to state. Its collections are set on opening."""

    _documents: AsyncIOMotorCollection[dict[str, Any]]
    _collections: AsyncIOMotorCollection[dict[str, Any]]

    @translated
    async def requeue(self, document_id: str, *, fence: int | None = None) -> bool:
        found: dict[str, Any] = {"_id": document_id, "state": DocumentState.FAILED}
        if fence is not None:
            found["fence"] = fence
        fresh = {
            "state": DocumentState.QUEUED,
            "outbox": "pending",
            "letter": "",
            "attempts": 0,
            "outages": 0,
            "error": None,
            **_NO_LEASE,
            **_told("requeued"),
        }
        return await self._change(found, fresh)

    @translated
    async def claim(self, document_id: str, owner: str, lease_ms: int, *, token: str = "") -> Document:
        """What was granted is told by the token in the record: it is written there only together with the lease."""
        token = token or secrets.token_hex(8)
        is_held_by_it = {"$and": [_IS_HELD, {"$eq": [{"$ifNull": ["$claim", ""]}, {"$literal": token}]}]}
        is_granted = {"$or": [{"$lte": ["$lease_until", _NOW_MS]}, is_held_by_it]}
        counted = {
            "attempts": {"$add": ["$attempts", 1]},
            "fence": {"$add": ["$fence", 1]},
            **_told("claimed", attempt={"$add": ["$attempts", 1]}, worker={"$literal": owner}),
        }
        taken = {
            **{name: _if(is_held_by_it, f"${name}", value) for name, value in counted.items()},
            "state": DocumentState.PROCESSING.value,
            "owner": {"$literal": owner},
            "claim": {"$literal": token},
            "lease_until": _ends_in(lease_ms),
            "updated_at": "$$NOW",
        }
        open_to_claims = {"_id": document_id, "state": {"$in": sources_of(DocumentState.PROCESSING)}}
        if_granted = {name: _if(is_granted, value, f"${name}") for name, value in taken.items()}
        await self._documents.update_one(open_to_claims, [{"$set": if_granted}])
        record = await self._documents.find_one({"_id": document_id})
        if record is not None and record.get("claim") == token and record.get("state") == DocumentState.PROCESSING:
            return document_of(record)
        await self.require_claimable(document_id)
        raise LeaseHeld(document_id, retry_in_s=0.0)  # the lease ended between the claim and the question

    @translated
    async def require_claimable(self, document_id: str) -> None:
        remaining = {"$subtract": ["$lease_until", _NOW_MS]}
        pipeline: list[Record] = [
            {"$match": {"_id": document_id}},
            {"$project": {"state": 1, "remaining_ms": remaining}},
        ]
        found = await self._documents.aggregate(pipeline).to_list(1)
        if not found:
            raise NotFound(f"there is no document {document_id}")
        state, remaining_ms = found[0].get("state"), int(found[0].get("remaining_ms") or 0)
        if state not in sources_of(DocumentState.PROCESSING):
            raise Conflict(f"document {document_id} is {state}: there is nothing to work on")
        if remaining_ms > 0:
            raise LeaseHeld(document_id, retry_in_s=remaining_ms / 1000)

    @translated
    async def extend(self, document_id: str, fence: int, lease_ms: int) -> None:
        await self._keep(document_id, fence, {"lease_until": _ends_in(lease_ms)})

    @translated
    async def plan(self, document_id: str, fence: int, *, dpi: int, stage: str, generation: int = FIRST) -> Document:
        is_same = {"$eq": [{"$ifNull": ["$generation", FIRST]}, generation]}
        pages_done = {"$cond": [is_same, "$pages_done", 0]}
        planned = {"dpi": dpi, "stage": {"$literal": stage}, "generation": generation, "pages_done": pages_done}
        return await self._change_held(document_id, fence, planned)

    @translated
    async def checkpoint(self, document_id: str, fence: int, pages_done: int) -> None:
        await self._keep(document_id, fence, {"pages_done": pages_done, "outages": 0})

    @translated
    async def finish(self, document_id: str, fence: int) -> Document:
        verdict = {"stage": "", "error": None, "pages_done": "$pages", "ready_at": "$$NOW", **_told("ready")}
        collection = await self._collection_of(document_id)
        await begin_change(self._collections, collection, document_id, fence)
        try:
            ready = await self._leave(document_id, fence, DocumentState.READY, verdict)
        except LeaseLost:
            await end_change(self._collections, collection, document_id, fence)
            raise
        # After any other exception the document may become ready yet; `settle_changes` finds out.
        try:
            await end_change(self._collections, collection, document_id, fence)
        except PyMongoError as error:
            log.warning("left to be settled", document_id=document_id, collection=collection, cause=str(error))
        return ready

    @translated
    async def postpone(self, document_id: str, fence: int, failure: Failure, delay_ms: int) -> Document:
        until_due = {"owner": "", "lease_until": _ends_in(delay_ms)}
        changes = {**_cause(failure), **_told("postponed", detail=failure), **until_due}
        return await self._change_held(document_id, fence, {"state": DocumentState.QUEUED, **changes})

    @translated
    async def fail(self, document_id: str, fence: int, failure: Failure) -> Document:
        verdict = {**_cause(failure), "letter": "pending", **_told("failed", detail=failure)}
        return await self._leave(document_id, fence, DocumentState.FAILED, verdict)

    @translated
    async def mark_dead_letter_sent(self, document_id: str, fence: int) -> None:
        await self._change({"_id": document_id, "fence": fence, "state": DocumentState.FAILED}, {"letter": "sent"})

    @translated
    async def release(self, document_id: str, fence: int, *, outage: bool = False) -> None:
        uncounted: Record = {"$subtract": ["$attempts", 1]}
        if outage:
            outages = {"$ifNull": ["$outages", 0]}
            attempts = _if({"$lt": [outages, OUTAGES_FORGIVEN]}, uncounted, "$attempts")
            changes = {"attempts": attempts, "outages": {"$add": [outages, 1]}, **_told("released by an outage")}
        else:
            changes = {"attempts": uncounted, **_told("released")}
        await self._leave(document_id, fence, DocumentState.QUEUED, changes)

    @translated
    async def expire(self, document_id: str, fence: int) -> bool:
        """The compare part asks for the end of the lease again: its owner may have been heard of since."""
        ended = {
            "_id": document_id,
            "fence": fence,
            "state": DocumentState.PROCESSING,
            "$expr": {"$lte": ["$lease_until", _NOW_MS]},
        }
        freed = {"state": DocumentState.QUEUED, "outbox": "pending", **_NO_LEASE, **_told("lease expired")}
        return await self._change(ended, freed)

    @translated
    async def fence_off(self, collection: str) -> list[Document]:
        held = {"collection": collection, "state": DocumentState.PROCESSING}
        freed = {
            "state": DocumentState.QUEUED,
            "outbox": "pending",
            "fence": {"$add": ["$fence", 1]},
            "attempts": {"$max": [0, {"$subtract": ["$attempts", 1]}]},
            **_NO_LEASE,
            **_told("taken back for another embedder"),
        }
        fenced = []
        while record := await self._documents.find_one_and_update(
            held, [_changes(freed)], return_document=ReturnDocument.AFTER
        ):
            fenced.append(document_of(record))
        return fenced

    @translated
    async def history(self, document_id: str) -> list[Event]:
        record = await self._documents.find_one({"_id": document_id}, {"story": 1})
        story = (record or {}).get("story")
        return [event for line in (story if isinstance(story, list) else ()) if (event := _event_of(line))]

    @translated
    async def begin_delete(self, document_id: str) -> Document:
        deletable = {"_id": document_id, "state": {"$in": sources_of(DocumentState.DELETING)}}
        await change_version(self._collections, await self._collection_of(document_id))
        await self._change(deletable, {"state": DocumentState.DELETING, "fence": {"$add": ["$fence", 1]}, **_NO_LEASE})
        record = await self._documents.find_one({"_id": document_id})
        if record is None:
            raise NotFound(f"there is no document {document_id}")
        document = document_of(record)
        if not document.state.is_known:
            document.require_readable()
        if document.state is DocumentState.ARCHIVED:
            raise CollectionArchived(f"document {document_id} is in a collection that is being archived or restored")
        if document.state is not DocumentState.DELETING:
            raise Conflict(f"document {document_id} was restored, or uploaded again, at this moment; delete it again")
        return document

    async def _collection_of(self, document_id: str) -> str:
        """The collection of the document, "" where there is no such document."""
        record = await self._documents.find_one({"_id": document_id}, {"collection": 1})
        return str((record or {}).get("collection", ""))

    async def _leave(self, document_id: str, fence: int, target: DocumentState, changes: dict[str, Any]) -> Document:
        """Give the document up, into state `target`."""
        assert DocumentState.PROCESSING in sources_of(target)
        return await self._change_held(document_id, fence, {"state": target, **changes, **_NO_LEASE})

    async def _change_held(self, document_id: str, fence: int, changes: dict[str, Any]) -> Document:
        """As `_keep`; returns the record as it is then, unless it is nobody's business any more: LeaseLost."""
        await self._keep(document_id, fence, changes)
        record = await self._documents.find_one({"_id": document_id})
        if record is None or record.get("fence") != fence:
            raise _lost(document_id, fence)
        return document_of(record)

    async def _keep(self, document_id: str, fence: int, changes: dict[str, Any]) -> None:
        """Change the document while its fence still is `fence` and nobody has given it up. Raises LeaseLost."""
        held = {"_id": document_id, "fence": fence, "state": DocumentState.PROCESSING}
        if not await self._change(held, changes):
            raise _lost(document_id, fence)

    async def _change(self, condition: dict[str, Any], changes: dict[str, Any]) -> bool:
        """Change one document by its id, if the rest of `condition` holds too: an update pipeline, atomic.

        Whoever wants the record reads it afterwards: for findAndModify, and for a condition with `$expr`, the local
        stack's server looks at every document; for an update without it goes by the id.
        """
        assert "_id" in condition
        result = await self._documents.update_one(condition, [_changes(changes)])
        return bool(result.matched_count)


def _event_of(line: Any) -> Event | None:
    """None for what is no line of a story of ours."""
    if not isinstance(line, Mapping) or not isinstance(at := line.get("at"), datetime):
        return None
    reader = Reader(line)
    texts = [reader.text(name, optional=True) for name in ("event", "worker", "detail")]
    return Event(at, texts[0], reader.whole("attempt", optional=True), *texts[1:])


def _lost(document_id: str, fence: int) -> LeaseLost:
    return LeaseLost(f"document {document_id} is no longer held under fence {fence}")


def _changes(changes: dict[str, Any]) -> dict[str, Any]:
    return {"$set": {**changes, "updated_at": "$$NOW"}}


def _if(condition: dict[str, Any], then: Any, otherwise: Any) -> dict[str, Any]:
    return {"$cond": [condition, then, otherwise]}


def _cause(failure: Failure) -> dict[str, Any]:
    """Texts are literals: a message may begin with a dollar sign, which would make it an expression."""
    error = {"code": failure.code, "stage": failure.stage, "message": _storable(failure.message)}
    return {"stage": {"$literal": failure.stage}, "error": {"$literal": error}}


def _told(event: str, *, attempt: Any = "$attempts", worker: Any = "$owner", detail: Failure | None = None) -> Record:
    """One more line of the document's story, of which the latest are kept."""
    text = _storable(f"{detail.code} in {detail.stage}: {detail.message}" if detail else "")
    line = {"at": "$$NOW", "event": event, "attempt": attempt, "worker": worker, "detail": {"$literal": text}}
    whole = {"$concatArrays": [{"$ifNull": ["$story", []]}, [line]]}
    return {"story": {"$slice": [whole, -_LONGEST_STORY]}}


def _storable(text: str) -> str:
    """Without halves of characters, which come from file names and damaged texts."""
    return text.encode("utf-8", "replace").decode()


def _ends_in(lease_ms: int) -> dict[str, Any]:
    return {"$add": [_NOW_MS, lease_ms]}
