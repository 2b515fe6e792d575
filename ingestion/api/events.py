"""The progress of a document as server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, Final

import structlog
from fastapi import APIRouter
from sse_starlette import EventSourceResponse, ServerSentEvent

from ingestion.api.dependencies import AuthenticatorDep, DocumentDep, PrincipalDep, ServicesDep
from ingestion.api.views import DocumentView
from ingestion.bootstrap import Services
from ingestion.concurrency.deadline import budget
from ingestion.errors import DependencyUnavailable, Unauthorized
from ingestion.keys.authenticator import Authenticator
from ingestion.model import Document, DocumentState, Principal

log = structlog.get_logger(__name__)
router = APIRouter(tags=["documents"])

POLL_INTERVAL_S: Final = 0.5


@router.get("/documents/{document_id}/events", response_class=EventSourceResponse)
async def document_events(
    document: DocumentDep, services: ServicesDep, principal: PrincipalDep, authenticator: AuthenticatorDep
) -> EventSourceResponse:
    """An event `document` at every change, with the document's JSON and a `message`, until the document is settled.

    The stream ends as well when the key is revoked or expires.
    """
    return EventSourceResponse(_events(document, services, principal, authenticator))


async def _events(
    document: Document, services: Services, principal: Principal, authenticator: Authenticator
) -> AsyncIterator[ServerSentEvent]:
    shown: dict[str, Any] = {}
    while True:
        # Each poll has a budget of its own: `yield` may not stand inside of one.
        with budget(services.settings.api.store_budget_s):
            snapshot = await _snapshot(document, services)
        if snapshot != shown:
            shown = snapshot
            yield ServerSentEvent(event="document", data=json.dumps(snapshot, ensure_ascii=False))
        if document.state.is_settled:
            return
        await asyncio.sleep(POLL_INTERVAL_S)
        with budget(services.settings.api.store_budget_s):
            if not await _is_valid_still(principal, authenticator):
                return
            document = await _reread(document, services)


async def _is_valid_still(principal: Principal, authenticator: Authenticator) -> bool:
    """False where the caller's key has been revoked, or has expired. True where the database does not answer."""
    try:
        await authenticator.require_valid(principal)
    except Unauthorized:
        return False
    except DependencyUnavailable:
        return True
    return True


async def _snapshot(document: Document, services: Services) -> dict[str, Any]:
    """The JSON of the record, with finer progress from Redis while the document is processed."""
    snapshot = {**DocumentView.of(document).model_dump(mode="json"), "message": ""}
    task = await services.progress.read(document.id)
    if document.state is DocumentState.PROCESSING and task:
        processed = _non_negative(task.get("processed"))
        snapshot["pages_done"] = min(max(document.pages_done, processed), document.pages)
        snapshot["message"] = task.get("message", "")
    return snapshot


def _non_negative(text: str | None) -> int:
    """0 where `text` is not a number: progress is for display only."""
    return int(text) if text and text.isdecimal() and len(text) < 10 else 0


async def _reread(document: Document, services: Services) -> Document:
    """The document as it is now: `deleted` where it has no record, unchanged where MongoDB cannot be read."""
    try:
        current = await services.documents.get(document.id)
    except DependencyUnavailable as error:
        log.warning("document not readable for events", document_id=document.id, cause=str(error))
        return document
    return current or replace(document, state=DocumentState.DELETED)
