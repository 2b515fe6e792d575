"""The ledger: claims, leases, fences and states."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

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
    StaleKind,
    TextPages,
    sources_of,
)
from tests.memory.state import MemoryPort

NO_LEASE: Final[dict[str, Any]] = {"owner": "", "lease_until_ms": 0}
_S = DocumentState
_STALE: Final[dict[StaleKind, Callable[[Document], bool]]] = {
    StaleKind.UNPUBLISHED: lambda one: one.state in (_S.RECEIVED, _S.QUEUED) and one.outbox == "pending",
    StaleKind.DEAD_LETTER_PENDING: lambda one: one.state is _S.FAILED and one.letter == "pending",
    StaleKind.ABANDONED: lambda one: one.state is _S.PROCESSING,
    StaleKind.LOST: lambda one: one.state is _S.QUEUED and one.outbox == "sent",
    StaleKind.HALF_DELETED: lambda one: one.state is _S.DELETING,
    StaleKind.REPLACED: lambda one: bool(one.replaced_by) and one.state in sources_of(_S.DELETING),
    StaleKind.HALF_CANCELLED: lambda one: one.state is _S.CANCELLING,
}


class MemoryLedger(MemoryPort):
    async def claim(
        self, document_id: str, owner: str, lease_ms: int, *, token: str = "", delivery: str = ""
    ) -> Document:
        await self.require_claimable(document_id, token)
        token = token or secrets.token_hex(8)
        stored = self.state.documents[document_id]
        document = stored.document
        is_same_claim = document.state is _S.PROCESSING and stored.claim == token
        counted = {} if is_same_claim else {"attempts": document.attempts + 1, "fence": document.fence + 1}
        lease = {"owner": owner, "lease_until_ms": self.clock.now_ms + lease_ms}
        claimed = self._change(document_id, {"state": _S.PROCESSING, "delivery": delivery, **counted, **lease})
        stored.claim = token
        if counted:
            self._record_event(document_id, "claimed")
        return claimed

    async def require_claimable(self, document_id: str, token: str = "") -> None:
        stored = self.state.documents.get(document_id)
        if stored is None:
            raise NotFound(f"there is no document {document_id}")
        document = stored.document
        if document.state not in sources_of(_S.PROCESSING):
            raise Conflict(f"document {document_id} is {document.state}: there is nothing to work on")
        is_held_by_token = document.state is _S.PROCESSING and token and stored.claim == token
        remaining_ms = document.lease_until_ms - self.clock.now_ms
        if remaining_ms > 0 and not is_held_by_token:
            raise LeaseHeld(document_id, retry_in_s=remaining_ms / 1000)

    async def extend(self, document_id: str, fence: int, lease_ms: int) -> None:
        self._change_held(document_id, fence, {"lease_until_ms": self.clock.now_ms + lease_ms})

    async def plan(
        self, document_id: str, fence: int, *, dpi: int, stage: str, pages: int | None = None, generation: int = FIRST
    ) -> Document:
        document = self._held(document_id, fence)
        pages_done = document.pages_done if document.generation == generation else 0
        changes: dict[str, Any] = {"dpi": dpi, "stage": stage, "generation": generation, "pages_done": pages_done}
        if pages is not None:
            changes["pages"] = pages
        return self._change(document_id, changes)

    async def checkpoint(
        self,
        document_id: str,
        fence: int,
        pages_done: int,
        text_pages: TextPages | None = None,
        notes: Sequence[Note] = (),
    ) -> None:
        seen = {"text_pages": text_pages, "notes": tuple(notes)}
        self._change_held(document_id, fence, {"pages_done": pages_done, "outages": 0, **seen})

    async def finish(self, document: Document) -> Document:
        self._held(document.id, document.fence)
        done = {"stage": "", "error": None, "pages_done": document.pages, "ready_at": self.clock.now}
        self._record_event(document.id, "ready")
        self._change_version(document.collection)
        names = ("dpi", "codes_format", "terms_format", "text_pages", "notes")
        given = {name: getattr(document, name) for name in names}
        ready = self._change(document.id, {"state": _S.READY, **given, **done, **NO_LEASE})
        self._add_outbox_event(document.id, EventType.READY)
        self._mark_replaced(document.collection, document.key)
        return ready

    async def postpone(self, document_id: str, fence: int, failure: Failure, delay_ms: int) -> Document:
        self._held(document_id, fence)
        self._record_event(document_id, "postponed", failure)
        waits = {"owner": "", "lease_until_ms": self.clock.now_ms + delay_ms}
        return self._change(document_id, {"state": _S.QUEUED, "stage": failure.stage, "error": failure, **waits})

    async def fail(self, document_id: str, fence: int, failure: Failure) -> Document:
        self._held(document_id, fence)
        self._record_event(document_id, "failed", failure)
        cause = {"stage": failure.stage, "error": failure, "letter": "pending"}
        self._add_outbox_event(document_id, EventType.FAILED, failure)
        return self._change(document_id, {"state": _S.FAILED, **cause, **NO_LEASE})

    async def release(self, document_id: str, fence: int, *, outage: bool = False) -> None:
        document = self._held(document_id, fence)
        self._record_event(document_id, "released by an outage" if outage else "released")
        changes: dict[str, Any] = {"attempts": document.attempts - 1}
        if outage:
            counts = document.outages >= OUTAGES_FORGIVEN
            changes = {"attempts": document.attempts - (not counts), "outages": document.outages + 1}
        self._change(document_id, {"state": _S.QUEUED, **changes, **NO_LEASE})

    async def history(self, document_id: str) -> Sequence[Event]:
        stored = self.state.documents.get(document_id)
        return [] if stored is None else list(stored.history)

    def _held(self, document_id: str, fence: int) -> Document:
        stored = self.state.documents.get(document_id)
        if stored is None or stored.document.fence != fence or stored.document.state is not _S.PROCESSING:
            raise LeaseLost(f"document {document_id} is no longer held under fence {fence}")
        return stored.document

    def _change_held(self, document_id: str, fence: int, changes: dict[str, Any]) -> None:
        self._held(document_id, fence)
        self._change(document_id, changes)


class MemoryOutbox(MemoryPort):
    async def mark_queued(self, document: Document) -> None:
        stored = self.state.documents.get(document.id)
        if stored is None or stored.document.first_page_key != document.first_page_key:
            return
        state = _S.QUEUED if stored.document.state is _S.RECEIVED else stored.document.state
        self._change(document.id, {"outbox": "sent", "state": state})
        if document.priority is not None:
            self.state.flows[document.flow] = secrets.token_hex(6)

    async def mark_dead_letter_sent(self, document_id: str, fence: int) -> None:
        if self._is_failed(document_id, fence):
            self._change(document_id, {"letter": "sent"})

    async def requeue(self, document_id: str, *, fence: int | None = None) -> bool:
        if not self._is_failed(document_id, fence):
            return False
        self._record_event(document_id, "requeued")
        fresh = {"outbox": "pending", "letter": "", "attempts": 0, "outages": 0, "error": None}
        self._change(document_id, {"state": _S.QUEUED, "requeued_at": self.clock.now, **fresh, **NO_LEASE})
        return True

    def _is_failed(self, document_id: str, fence: int | None) -> bool:
        stored = self.state.documents.get(document_id)
        is_failed = stored is not None and stored.document.state is _S.FAILED
        return is_failed and (fence is None or stored.document.fence == fence)


class MemoryRevisions(MemoryPort):
    async def renew_revision(self, known: Document, revision: int) -> None:
        stored = self.state.documents.get(known.id)
        if stored is None or stored.document.first_page_key != known.first_page_key or stored.document.replaced_by:
            return
        stored.document = replace(stored.document, revision=max(stored.document.revision, revision))
        self._mark_replaced(known.collection, known.key)
        self._change_version(known.collection)


class MemoryRecovery(MemoryPort):
    async def stale(
        self, kind: StaleKind, age_s: float, limit: int, *, collection: str | None = None
    ) -> Sequence[Document]:
        latest_ms = self.clock.now_ms - round(age_s * 1000)

        def is_stale(one: Document) -> bool:
            changed_ms = round(one.updated_at.timestamp() * 1000)
            if kind is StaleKind.REPLACED:
                changed_ms = self.state.documents[one.id].replaced_at_ms
            since_ms = max(one.lease_until_ms, changed_ms)
            return _STALE[kind](one) and since_ms <= latest_ms and collection in (None, one.collection)

        return sorted(self._documents(is_stale), key=lambda one: one.updated_at)[:limit]

    async def expire(self, document_id: str, fence: int) -> bool:
        stored = self.state.documents.get(document_id)
        if stored is None or stored.document.fence != fence or stored.document.state is not _S.PROCESSING:
            return False
        if stored.document.lease_until_ms > self.clock.now_ms:
            return False
        self._record_event(document_id, "lease expired")
        self._change(document_id, {"state": _S.QUEUED, "outbox": "pending", **NO_LEASE})
        return True

    async def unreadable(self, collection: str | None = None) -> dict[str, int]:
        unknown = self._documents(lambda one: not one.state.is_known and collection in (None, one.collection))
        return dict(Counter(one.state.value for one in unknown))

    async def settle_changes(self) -> int:
        return 0  # `finish` is one step here: no change is ever cut off
