"""The records that the in-memory ports of the document store share."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from ingestion.catalogue.generations import Binding, PageSize
from ingestion.catalogue.states import Archive, CollectionState
from ingestion.model import (
    ApiKey,
    Document,
    DocumentEvent,
    DocumentState,
    Event,
    EventType,
    Failure,
    Flow,
    LetterMark,
    PageRecord,
    Webhook,
    WebhookDelivery,
    sources_of,
)
from ingestion.ports import DayUsage
from tests.memory.clock import Clock


@dataclass(slots=True)
class StoredDocument:
    """A document's record. `claim` is the token of its latest claim."""

    document: Document
    claim: str = ""
    history: list[Event] = field(default_factory=list)
    frozen_from: DocumentState | None = None
    archive: str = ""
    replaced_at_ms: int = 0


@dataclass(slots=True)
class StoredCollection:
    """A collection's record. `closing` is the token that `close_generation` gave out, "" where it is open."""

    binding: Binding
    last_generation: int = 1
    closing: str = ""
    state: CollectionState = CollectionState.ACTIVE
    archive: Archive | None = None
    last_used_at: datetime | None = None
    hold: str = ""
    hold_until_ms: int = 0
    version: str = ""


@dataclass(slots=True)
class State:
    clock: Clock = field(default_factory=Clock)
    documents: dict[str, StoredDocument] = field(default_factory=dict)
    pages: dict[int, PageRecord] = field(default_factory=dict)
    page_sizes: dict[int, tuple[int, PageSize]] = field(default_factory=dict)
    """The generation and the size of a page in the next generation, by page key."""
    collections: dict[str, StoredCollection] = field(default_factory=dict)
    archived: dict[str, tuple[str, str]] = field(default_factory=dict)
    """The collection and the archive of each archived document."""
    keys: dict[str, ApiKey] = field(default_factory=dict)
    marks: dict[str, LetterMark] = field(default_factory=dict)
    """Marks of dead letters, by letter."""
    events: dict[str, list[DocumentEvent]] = field(default_factory=dict)
    """The outbox, by document. A removed document keeps its events."""
    webhooks: dict[str, Webhook] = field(default_factory=dict)
    deliveries: dict[str, WebhookDelivery] = field(default_factory=dict)
    usage: dict[tuple[str, str], DayUsage] = field(default_factory=dict)
    flows: dict[Flow, str] = field(default_factory=dict)
    next_page_key: int = 1
    versions: itertools.count[int] = field(default_factory=itertools.count)


class MemoryPort:
    """The base of the ports: each uses the records that it needs."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.clock = state.clock

    def _change(self, id_: str, changes: dict[str, Any]) -> Document:
        stored = self.state.documents[id_]
        stored.document = replace(stored.document, **changes, updated_at=self.clock.now)
        return stored.document

    def _record_event(self, id_: str, name: str, failure: Failure | None = None, worker: str | None = None) -> None:
        """To be called after the change: the event names the attempt that the record counts by then."""
        stored = self.state.documents[id_]
        detail = f"{failure.code} in {failure.stage}: {failure.message}" if failure else ""
        owner = stored.document.owner if worker is None else worker
        stored.history.append(Event(self.clock.now, name, stored.document.attempts, owner, detail))

    def _add_outbox_event(self, id_: str, type_: EventType, failure: Failure | None = None) -> None:
        document = self.state.documents[id_].document
        event = DocumentEvent(
            DocumentEvent.make_id(id_, document.fence, type_.value),
            type_,
            self.clock.now,
            id_,
            document.collection,
            document.filename,
            document.pages,
            failure,
        )
        self.state.events.setdefault(id_, []).append(event)

    def _mark_replaced(self, collection: str, key: str) -> None:
        """Mark the versions of the key that are older than its newest ready one."""

        def is_of_key(one: Document) -> bool:
            return bool(key) and (one.collection, one.key) == (collection, key) and not one.replaced_by

        versions = self._documents(is_of_key)
        ready = [one for one in versions if one.state is DocumentState.READY]
        newest = max(ready, key=lambda one: one.revision, default=None)
        for one in versions:
            if newest and one.revision < newest.revision and one.state in sources_of(DocumentState.DELETING):
                stored = self.state.documents[one.id]
                stored.document = replace(one, replaced_by=newest.id)
                stored.replaced_at_ms = self.clock.now_ms

    def _change_version(self, collection: str) -> None:
        stored = self.state.collections.get(collection)
        if stored is not None:
            stored.version = f"v{next(self.state.versions)}"

    def _documents(self, wanted: Callable[[Document], bool]) -> list[Document]:
        """Those documents, in the order of their ids."""
        found = (stored.document for stored in self.state.documents.values())
        return sorted(filter(wanted, found), key=lambda document: document.id)
