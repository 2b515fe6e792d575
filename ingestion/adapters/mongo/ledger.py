"""The ledger: which worker holds which document. Every change of state is one compare-and-set in the database."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, Final

import structlog
from pymongo.errors import PyMongoError

from ingestion.adapters.mongo.collection_versions import begin_change, end_change
from ingestion.adapters.mongo.database import aggregated
from ingestion.adapters.mongo.document_changes import (
    NO_LEASE,
    DocumentChanges,
    event,
    event_of,
    failure_fields,
    pipeline_stage,
)
from ingestion.adapters.mongo.document_events import outbox_event
from ingestion.adapters.mongo.document_mapping import document_of
from ingestion.adapters.mongo.errors import translated
from ingestion.adapters.mongo.expressions import NOW_MS, if_else, ms_from_now
from ingestion.adapters.mongo.fields import MongoRecord
from ingestion.adapters.mongo.revisions import mark_replaced
from ingestion.catalogue.generations import FIRST
from ingestion.errors import Conflict, LeaseHeld, LeaseLost, NotFound
from ingestion.model import (
    OUTAGES_FORGIVEN,
    Document,
    DocumentState,
    Event,
    EventType,
    Failure,
    Note,
    TextPages,
    sources_of,
)

log = structlog.get_logger(__name__)

_IS_HELD: Final = {"$eq": ["$state", DocumentState.PROCESSING.value]}


class MongoLedger(DocumentChanges):
    """Implements the port Ledger."""

    @translated
    async def claim(
        self, document_id: str, owner: str, lease_ms: int, *, token: str = "", delivery: str = ""
    ) -> Document:
        """The token in the record shows whether this claim was granted: one update writes it and the lease."""
        token = token or secrets.token_hex(8)
        is_held_by_it = {"$and": [_IS_HELD, {"$eq": [{"$ifNull": ["$claim", ""]}, {"$literal": token}]}]}
        is_granted = {"$or": [{"$lte": ["$lease_until", NOW_MS]}, is_held_by_it]}
        counted = {
            "attempts": {"$add": ["$attempts", 1]},
            "fence": {"$add": ["$fence", 1]},
            **event("claimed", attempt={"$add": ["$attempts", 1]}, worker={"$literal": owner}),
        }
        taken = {
            **{name: if_else(is_held_by_it, f"${name}", value) for name, value in counted.items()},
            "state": DocumentState.PROCESSING.value,
            "owner": {"$literal": owner},
            "claim": {"$literal": token},
            "delivery": {"$literal": delivery},
            "lease_until": ms_from_now(lease_ms),
            "updated_at": "$$NOW",
        }
        open_to_claims = {"_id": document_id, "state": {"$in": sources_of(DocumentState.PROCESSING)}}
        if_granted = {name: if_else(is_granted, value, f"${name}") for name, value in taken.items()}
        record = await self._change_and_read(open_to_claims, {"$set": if_granted})
        if record is not None and record.get("claim") == token and record.get("state") == DocumentState.PROCESSING:
            return document_of(record)
        await self.require_claimable(document_id)
        raise LeaseHeld(document_id, retry_in_s=0.0)  # the lease ended between the claim and this check

    @translated
    async def require_claimable(self, document_id: str) -> None:
        remaining = {"$subtract": ["$lease_until", NOW_MS]}
        pipeline: list[MongoRecord] = [
            {"$match": {"_id": document_id}},
            {"$project": {"state": 1, "remaining_ms": remaining}},
        ]
        found = await aggregated(self._documents, pipeline, limit=1)
        if not found:
            raise NotFound(f"there is no document {document_id}")
        state, remaining_ms = found[0].get("state"), int(found[0].get("remaining_ms") or 0)
        if state not in sources_of(DocumentState.PROCESSING):
            raise Conflict(f"document {document_id} is {state}: there is nothing to work on")
        if remaining_ms > 0:
            raise LeaseHeld(document_id, retry_in_s=remaining_ms / 1000)

    @translated
    async def extend(self, document_id: str, fence: int, lease_ms: int) -> None:
        await self._keep(document_id, fence, {"lease_until": ms_from_now(lease_ms)})

    @translated
    async def plan(
        self, document_id: str, fence: int, *, dpi: int, stage: str, pages: int | None = None, generation: int = FIRST
    ) -> Document:
        is_same = {"$eq": [{"$ifNull": ["$generation", FIRST]}, generation]}
        pages_done = {"$cond": [is_same, "$pages_done", 0]}
        planned: dict[str, Any] = {"dpi": dpi, "stage": {"$literal": stage}, "generation": generation}
        planned |= {"pages_done": pages_done} | ({} if pages is None else {"pages": pages})
        return await self._change_held(document_id, fence, planned)

    @translated
    async def checkpoint(
        self,
        document_id: str,
        fence: int,
        pages_done: int,
        text_pages: TextPages | None = None,
        notes: Sequence[Note] = (),
    ) -> None:
        seen = {"text_pages": _counts(text_pages), "notes": _records(notes)}
        await self._keep(document_id, fence, {"pages_done": pages_done, "outages": 0, **seen})

    @translated
    async def finish(self, document: Document) -> Document:
        collection, document_id, fence = document.collection, document.id, document.fence
        done = {
            "stage": "",
            "error": None,
            "dpi": document.dpi,
            "codes_format": document.codes_format,
            "terms_format": document.terms_format,
            "text_pages": _counts(document.text_pages),
            "notes": _records(document.notes),
            "pages_done": "$pages",
            "ready_at": "$$NOW",
        }
        await begin_change(self._collections, collection, document_id, fence)
        try:
            ready_now = {"state": DocumentState.READY, **done, **event("ready"), **outbox_event(EventType.READY)}
            await self._keep(document_id, fence, {**ready_now, **NO_LEASE})
        except LeaseLost:
            await end_change(self._collections, collection, document_id, fence)
            raise
        # After any other exception the document may still become ready. `settle_changes` checks it later.
        try:
            await mark_replaced(self._documents, collection, document.key)
            await end_change(self._collections, collection, document_id, fence)
        except PyMongoError as error:
            log.warning("version not settled", document_id=document_id, collection=collection, cause=str(error))
        ready = replace(document, state=DocumentState.READY, stage="", error=None, pages_done=document.pages)
        return replace(ready, owner="", lease_until_ms=0)

    @translated
    async def postpone(self, document_id: str, fence: int, failure: Failure, delay_ms: int) -> Document:
        until_due = {"owner": "", "lease_until": ms_from_now(delay_ms)}
        changes = {**failure_fields(failure), **event("postponed", detail=failure), **until_due}
        return await self._change_held(document_id, fence, {"state": DocumentState.QUEUED, **changes})

    @translated
    async def fail(self, document_id: str, fence: int, failure: Failure) -> Document:
        cause = failure_fields(failure)
        outcome = {
            **cause,
            "letter": "pending",
            **event("failed", detail=failure),
            **outbox_event(EventType.FAILED, cause["error"]),
        }
        return await self._leave(document_id, fence, DocumentState.FAILED, outcome)

    @translated
    async def release(self, document_id: str, fence: int, *, outage: bool = False) -> None:
        uncounted: MongoRecord = {"$subtract": ["$attempts", 1]}
        if outage:
            outages = {"$ifNull": ["$outages", 0]}
            attempts = if_else({"$lt": [outages, OUTAGES_FORGIVEN]}, uncounted, "$attempts")
            changes = {"attempts": attempts, "outages": {"$add": [outages, 1]}, **event("released by an outage")}
        else:
            changes = {"attempts": uncounted, **event("released")}
        await self._leave(document_id, fence, DocumentState.QUEUED, changes)

    @translated
    async def history(self, document_id: str) -> list[Event]:
        record = await self._documents.find_one({"_id": document_id}, {"story": 1})
        story = (record or {}).get("story")
        return [event for line in (story if isinstance(story, list) else ()) if (event := event_of(line))]

    async def _leave(self, document_id: str, fence: int, target: DocumentState, changes: dict[str, Any]) -> Document:
        """Release the document into state `target`. Raises LeaseLost."""
        assert DocumentState.PROCESSING in sources_of(target)
        return await self._change_held(document_id, fence, {"state": target, **changes, **NO_LEASE})

    async def _change_held(self, document_id: str, fence: int, changes: dict[str, Any]) -> Document:
        """As `_keep`, and return the record."""
        record = await self._change_and_read(_held(document_id, fence), pipeline_stage(changes))
        if record is None:
            raise _lost(document_id, fence)
        return document_of(record)

    async def _keep(self, document_id: str, fence: int, changes: dict[str, Any]) -> None:
        """Change the document if it is being processed under `fence`. Raises LeaseLost otherwise."""
        if not await self._change(_held(document_id, fence), changes):
            raise _lost(document_id, fence)


def _held(document_id: str, fence: int) -> dict[str, Any]:
    return {"_id": document_id, "fence": fence, "state": DocumentState.PROCESSING}


def _counts(text_pages: TextPages | None) -> dict[str, int] | None:
    return None if text_pages is None else asdict(text_pages)


def _records(notes: Sequence[Note]) -> dict[str, Any]:
    # A subject may begin with "$", which an update would take for a field.
    return {"$literal": [{**asdict(note), "pages": list(note.pages)} for note in notes]}


def _lost(document_id: str, fence: int) -> LeaseLost:
    return LeaseLost(f"document {document_id} is no longer held under fence {fence}")
