"""Progress as server-sent events: of a document, or of a whole collection over one connection.

A client that lost its connection sends the last id that it received as `Last-Event-ID`, and misses no change of a
record.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from hashlib import sha256
from typing import Annotated, Final

import structlog
from cachetools import LRUCache
from fastapi import APIRouter, Header, Query
from sse_starlette import EventSourceResponse, ServerSentEvent

from ingestion.api.dependencies import (
    AuthenticatorDep,
    CollectionDep,
    DocumentDep,
    PrincipalDep,
    ServicesDep,
)
from ingestion.api.progress import ProgressReader
from ingestion.api.views import ProgressView
from ingestion.bootstrap import Services
from ingestion.concurrency.deadline import budget
from ingestion.errors import BadRequest, DependencyUnavailable, Unauthorized
from ingestion.filters import parse_filter
from ingestion.keys.authenticator import Authenticator
from ingestion.model import UNFINISHED, Document, DocumentState, Principal

log = structlog.get_logger(__name__)
router = APIRouter(tags=["documents"])

POLL_INTERVAL_S: Final = 0.5
MOST_DOCUMENTS: Final = 1000
"""The documents of a collection that one look reads. Others follow with the next look."""
OVERLAP_MS: Final = 2000
"""A look begins so much before the end of the last one: a change may become readable after a newer one."""
_MOST_SHOWN: Final = 20_000
"""The documents of a stream whose last event is remembered, so that it is not repeated."""
_MOST_ASKED: Final = 200
_UNFINISHED: Final = parse_filter("state in ({})".format(", ".join(f'"{state.value}"' for state in UNFINISHED)))

StillValid = Callable[[], Awaitable[bool]]
LastEventId = Annotated[str | None, Header(description="the id of the last event that was received")]


@router.get("/documents/{document_id}/events", response_class=EventSourceResponse)
async def document_events(
    document: DocumentDep,
    services: ServicesDep,
    principal: PrincipalDep,
    authenticator: AuthenticatorDep,
    last_event_id: LastEventId = None,
) -> EventSourceResponse:
    """An event `document` at every change, with the document's JSON and its progress, until the document is settled.

    The stream ends as well when the key is revoked or expires.
    """
    still_valid = _still_valid(principal, authenticator)
    return EventSourceResponse(_document_events(document, services, still_valid, last_event_id))


@router.get("/collections/{collection}/events", response_class=EventSourceResponse)
async def collection_events(
    collection: CollectionDep,
    services: ServicesDep,
    principal: PrincipalDep,
    authenticator: AuthenticatorDep,
    document_id: Annotated[
        list[str] | None, Query(description="only these documents, 200 at most; the stream ends when all are settled")
    ] = None,
    last_event_id: LastEventId = None,
) -> EventSourceResponse:
    """An event `document` at every change of a document of the collection.

    It begins with the documents that are not settled or have changed a moment ago, or, with `Last-Event-ID`, with the
    changes since then. A document of `document_id` that is not in the collection is shown as `deleted`. The stream
    ends when the key is revoked or expires.
    """
    if document_id is not None and len(document_id) > _MOST_ASKED:
        raise BadRequest(f"{len(document_id)} documents are asked for; name at most {_MOST_ASKED}, or none for all")
    with budget(services.settings.api.store_budget_s):
        await services.documents.require_active(collection)
    still_valid = _still_valid(principal, authenticator)
    if document_id is None:
        return EventSourceResponse(_collection_events(collection, services, still_valid, _position(last_event_id)))
    return EventSourceResponse(_events_of(collection, document_id, services, still_valid))


async def _document_events(
    document: Document, services: Services, still_valid: StillValid, last_event_id: str | None
) -> AsyncIterator[ServerSentEvent]:
    progress = ProgressReader(services.documents, services.progress)
    shown = last_event_id
    while True:
        # Each look has a budget of its own: `yield` may not stand inside of one.
        with budget(services.settings.api.store_budget_s):
            [view] = await progress.views([document])
        if (digest := _digest(view)) != shown:
            shown = digest
            yield _event(view, digest)
        if document.state.is_settled:
            return
        await asyncio.sleep(POLL_INTERVAL_S)
        with budget(services.settings.api.store_budget_s):
            if not await still_valid():
                return
            document = await _reread(document, services)


async def _events_of(
    collection: str, document_ids: list[str], services: Services, still_valid: StillValid
) -> AsyncIterator[ServerSentEvent]:
    """Until all are settled. A client that comes back asks for the documents that it has not seen settled."""
    progress = ProgressReader(services.documents, services.progress)
    shown: dict[str, str] = {}
    known: dict[str, Document] = {}
    left = list(dict.fromkeys(document_ids))
    while left:
        with budget(services.settings.api.store_budget_s):
            if not await still_valid():
                return
            views = []
            try:
                found = await services.documents.known(left)
                here = {id_: one for id_, one in found.items() if one.collection == collection}
                known |= here
                documents = [here.get(id_) or _gone(id_, collection, known) for id_ in left]
                views = await progress.views(documents)
                left = [one.id for one in documents if not one.state.is_settled]
            except DependencyUnavailable as error:
                log.warning("documents not readable for events", collection=collection, cause=str(error))
        for view in views:
            if shown.get(view.document_id) != (digest := _digest(view)):
                shown[view.document_id] = digest
                yield _event(view, digest)
        if left:
            await asyncio.sleep(POLL_INTERVAL_S)


async def _collection_events(
    collection: str, services: Services, still_valid: StillValid, position_ms: int | None
) -> AsyncIterator[ServerSentEvent]:
    """Events of what changes.

    The last event of a look has an id: the time in Unix milliseconds up to which all changes were shown. The others
    have none: a client that breaks off among them gets the whole look again.
    """
    look = _CollectionLook(collection, services, position_ms)
    shown: LRUCache[str, str] = LRUCache(_MOST_SHOWN)
    while True:
        views: list[ProgressView] = []
        with budget(services.settings.api.store_budget_s):
            if not await still_valid():
                return
            try:
                views = await look.views()
            except DependencyUnavailable as error:
                log.warning("collection not readable for events", collection=collection, cause=str(error))
        digests = {view.document_id: _digest(view) for view in views}
        changed = [view for view in views if shown.get(view.document_id) != digests[view.document_id]]
        for left, view in zip(reversed(range(len(changed))), changed, strict=True):
            shown[view.document_id] = digests[view.document_id]
            yield _event(view, None if left else look.event_id)
        await asyncio.sleep(POLL_INTERVAL_S)


class _CollectionLook:
    """Looks at a collection again and again: at changed documents, and at the unsettled ones that it has seen."""

    def __init__(self, collection: str, services: Services, position_ms: int | None) -> None:
        self._collection = collection
        self._documents = services.documents
        self._progress = ProgressReader(services.documents, services.progress)
        self._next_ms = position_ms
        self._position_ms = position_ms or 0
        """Every change before it was shown, but for those that become readable late."""
        self._most = MOST_DOCUMENTS
        self._listed_to: str | None = "" if position_ms is None else None
        """The unfinished documents up to this id were shown. None: all of them."""
        self._open: dict[str, Document] = {}
        """Unsettled documents, the one that was read least recently first."""

    @property
    def event_id(self) -> str | None:
        """None until the documents that were unfinished at the beginning have been shown."""
        return None if self._listed_to is not None else str(self._position_ms)

    async def views(self) -> list[ProgressView]:
        """Raises DependencyUnavailable."""
        # Finer progress is in Redis, and a removed record changes no more: look at these again.
        again = list(self._open)[:MOST_DOCUMENTS]
        found = await self._documents.known(again) if again else {}
        documents = {id_: found.get(id_) or replace(self._open[id_], state=DocumentState.DELETED) for id_ in again}
        # The position moves here: a request that failed later would lose these changes.
        documents |= {one.id: one for one in await self._changed()}
        self._open = {id_: one for id_, one in self._open.items() if id_ not in documents}
        self._open |= {one.id: one for one in documents.values() if not one.state.is_settled}
        return await self._progress.views(list(documents.values()))

    async def _changed(self) -> list[Document]:
        if self._next_ms is None:
            self._next_ms = self._position_ms = await self._documents.last_change_ms(self._collection)
        if self._listed_to is not None:
            return await self._unfinished(self._listed_to or None)
        changed = await self._documents.changed_since(self._collection, self._next_ms, self._most)
        before_ms = self._position_ms
        if changed and (at := changed[-1].updated_at):
            self._position_ms = max(self._position_ms, round(at.timestamp() * 1000))
        # A full look goes on where it ended, so that it does not read the same documents for ever. More than fit into
        # a look may have changed in one moment, as when a collection is cancelled: then the next look is larger.
        is_full = len(changed) == self._most
        self._most = self._most * 2 if is_full and self._position_ms == before_ms else MOST_DOCUMENTS
        self._next_ms = self._position_ms - (0 if is_full else OVERLAP_MS)
        return changed

    async def _unfinished(self, after: str | None) -> list[Document]:
        found = await self._documents.list(self._collection, where=_UNFINISHED, limit=MOST_DOCUMENTS, after=after)
        self._listed_to = found[-1].id if len(found) == MOST_DOCUMENTS else None
        return found


def _event(view: ProgressView, event_id: str | None) -> ServerSentEvent:
    return ServerSentEvent(event="document", id=event_id, data=view.model_dump_json())


def _digest(view: ProgressView) -> str:
    return sha256(view.model_dump_json().encode()).hexdigest()[:16]


def _position(last_event_id: str | None) -> int | None:
    """None, a new start, for an id that this stream did not give out."""
    if last_event_id is None or not last_event_id.isdecimal() or len(last_event_id) > 15:
        return None
    return max(0, int(last_event_id) - OVERLAP_MS)


def _gone(document_id: str, collection: str, known: dict[str, Document]) -> Document:
    before = known.get(document_id)
    if before is not None:
        return replace(before, state=DocumentState.DELETED)
    return Document(document_id, collection, "", "", "", 0, 0, 0, state=DocumentState.DELETED)


def _still_valid(principal: Principal, authenticator: Authenticator) -> StillValid:
    async def check() -> bool:
        """False where the caller's key has been revoked or has expired. True where the database does not answer."""
        try:
            await authenticator.require_valid(principal)
        except Unauthorized:
            return False
        except DependencyUnavailable:
            return True
        return True

    return check


async def _reread(document: Document, services: Services) -> Document:
    """The document as it is now: `deleted` where it has no record, unchanged where MongoDB cannot be read."""
    try:
        current = await services.documents.get(document.id)
    except DependencyUnavailable as error:
        log.warning("document not readable for events", document_id=document.id, cause=str(error))
        return document
    return current or replace(document, state=DocumentState.DELETED)
