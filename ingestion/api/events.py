"""A document's progress as server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, Final

import structlog
from fastapi import APIRouter
from sse_starlette import EventSourceResponse, ServerSentEvent

from ingestion.api.dependencies import ServicesDep
from ingestion.api.views import DocumentView
from ingestion.bootstrap import Services
from ingestion.errors import DependencyUnavailable, NotFound
from ingestion.model import Document, DocumentState

log = structlog.get_logger(__name__)
router = APIRouter(tags=["documents"])

POLL_INTERVAL_S: Final = 0.5


@router.get("/documents/{document_id}/events", response_class=EventSourceResponse)
async def document_events(document_id: str, services: ServicesDep) -> EventSourceResponse:
    """An event `document` with the document's JSON and a `message` at every change, until it is settled."""
    document = await services.documents.get(document_id)
    if document is None:
        raise NotFound(f"no document {document_id}")
    return EventSourceResponse(_events(document, services))


async def _events(document: Document, services: Services) -> AsyncIterator[ServerSentEvent]:
    shown: dict[str, Any] = {}
    while True:
        snapshot = await _snapshot(document, services)
        if snapshot != shown:
            shown = snapshot
            yield ServerSentEvent(event="document", data=json.dumps(snapshot, ensure_ascii=False))
        if document.state.is_settled:
            return
        await asyncio.sleep(POLL_INTERVAL_S)
        document = await _reread(document, services)


async def _snapshot(document: Document, services: Services) -> dict[str, Any]:
    """The record, which is right about the state, with the finer progress of a document that is being worked on."""
    snapshot = {**DocumentView.of(document).model_dump(mode="json"), "message": ""}
    task = await services.progress.read(document.id)
    if document.state is DocumentState.PROCESSING and task:
        processed = _whole(task.get("processed"))
        snapshot["pages_done"] = min(max(document.pages_done, processed), document.pages)
        snapshot["message"] = task.get("message", "")
    return snapshot


def _whole(text: str | None) -> int:
    """0 for what is no number: progress is for people to watch."""
    return int(text) if text and text.isdecimal() and len(text) < 10 else 0


async def _reread(document: Document, services: Services) -> Document:
    """The document as it is now: `deleted` once its record is gone, unchanged while the records cannot be read."""
    try:
        current = await services.documents.get(document.id)
    except DependencyUnavailable as error:
        log.warning("progress not readable", document_id=document.id, cause=str(error))
        return document
    return current or replace(document, state=DocumentState.DELETED)
