"""The outbox of events: in the record of the document, or, once that is removed, in a collection of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from bson.int64 import Int64
from pymongo import DeleteOne, UpdateOne

from ingestion.adapters.mongo.database import MongoCollection, MongoPort, insert_new
from ingestion.adapters.mongo.errors import translated
from ingestion.adapters.mongo.fields import FieldReader, MongoRecord, moment_of
from ingestion.model import DocumentEvent, EventType, Failure
from ingestion.ports import PendingEvents

_MOST_EVENTS: Final = 50
"""The events that a record keeps while no janitor runs: the latest ones."""
_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
EVENT_FACTS: Final = ("collection", "filename", "pages", "fence", "events", "events_at")
_EMPTY: Final[dict[str, Any]] = {"$set": {"events": [], "events_at": None}}


def outbox_event(type_: EventType, error: Any = None) -> dict[str, Any]:
    """The fields that add an event to the record, in the update that changes the state. `error`: an expression."""
    event = {"type": type_.value, "fence": "$fence", "at": "$$NOW", "error": error}
    whole = {"$concatArrays": [{"$ifNull": ["$events", []]}, [event]]}
    return {"events": {"$slice": [whole, -_MOST_EVENTS]}, "events_at": "$$NOW"}


async def keep_events(outbox: MongoCollection, record: MongoRecord) -> None:
    """Copy the events of a document whose record is about to be removed, and add that it is deleted. Twice is safe."""
    removed = {"type": EventType.DELETED.value, "fence": record.get("fence"), "at": datetime.now(UTC), "error": None}
    lines = [*_lines(record), removed]
    kept = [
        {
            "_id": _event_id(record, line),
            "document_id": record["_id"],
            **{name: record.get(name) for name in ("collection", "filename", "pages", "fence")},
            "events": [line],
            "events_at": datetime.now(UTC),
        }
        for line in lines
    ]
    await insert_new(outbox, kept)


class MongoDocumentEvents(MongoPort):
    """Implements the port DocumentEvents."""

    @translated
    async def pending_events(self, limit: int) -> list[PendingEvents]:
        wanted = {"events_at": {"$gt": _EARLIEST}}
        found: list[PendingEvents] = []
        for source, collection in self._outboxes():
            shown = dict.fromkeys(("document_id", *EVENT_FACTS), 1)
            records = await collection.find(wanted, shown).sort("events_at", 1).limit(limit - len(found)).to_list(None)
            found += [_pending(source, record) for record in records]
            if len(found) >= limit:
                break
        return found

    @translated
    async def drop_events(self, pending: Sequence[PendingEvents]) -> None:
        for source, collection in self._outboxes():
            tokens: list[Any] = [one.token for one in pending if one.source == source]
            if not tokens:
                continue
            is_own = source == "documents"
            await collection.bulk_write(
                [UpdateOne(token, _EMPTY) if is_own else DeleteOne(token) for token in tokens], ordered=False
            )

    def _outboxes(self) -> Iterable[tuple[str, MongoCollection]]:
        return (("removed", self._events), ("documents", self._documents))


def _pending(source: str, record: MongoRecord) -> PendingEvents:
    """An unreadable event is left out: it is dropped with the others."""
    events = tuple(event for line in _lines(record) if (event := _event_of(record, line)) is not None)
    count = len(record["events"]) if isinstance(record.get("events"), list) else None
    token: dict[str, Any] = {"_id": record["_id"], "events_at": record.get("events_at")}
    if count is not None:
        token["events"] = {"$size": count}
    return PendingEvents(events, source, token)


def _lines(record: MongoRecord) -> list[MongoRecord]:
    lines = record.get("events")
    return [line for line in lines if isinstance(line, dict)] if isinstance(lines, list) else []


def _event_id(record: MongoRecord, line: MongoRecord) -> str:
    fence = line.get("fence")
    return DocumentEvent.make_id(
        str(record.get("document_id") or record["_id"]),
        int(fence) if isinstance(fence, int | Int64 | float) else 0,
        str(line.get("type")),
    )


def _event_of(record: MongoRecord, line: MongoRecord) -> DocumentEvent | None:
    reader = FieldReader(record)
    at, error = moment_of(line.get("at")), line.get("error")
    collection, filename = reader.text("collection"), reader.text("filename", optional=True)
    if at is None or not collection or not isinstance(line.get("type"), str):
        return None
    texts = (str(error.get(name) or "") for name in ("code", "stage", "message")) if isinstance(error, dict) else None
    failure = None if texts is None else Failure(*texts)
    return DocumentEvent(
        id=_event_id(record, line),
        type=EventType(str(line["type"])),
        at=at,
        document_id=str(record.get("document_id") or record["_id"]),
        collection=collection,
        filename=filename,
        pages=reader.whole("pages", optional=True),
        error=failure,
    )
