"""Changes of a document's record: update pipelines, each one compare-and-set in the database.

Leases end by the database's clock, never by a worker's. Their times are kept as int64 milliseconds and compared with
`$toLong` of `$$NOW`, because not every server that speaks this protocol compares dates with `$$NOW` rightly.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from ingestion.adapters.mongo.database import MongoPort
from ingestion.adapters.mongo.fields import Reader
from ingestion.adapters.mongo.records import Record
from ingestion.model import Event, Failure

NOW_MS: Final = {"$toLong": "$$NOW"}
NO_LEASE: Final = {"owner": "", "lease_until": 0}
_LONGEST_HISTORY: Final = 50


class DocumentChanges(MongoPort):
    """The base of the adapters that change a document's state."""

    async def _change(self, condition: dict[str, Any], changes: dict[str, Any]) -> bool:
        """Change one document by its id, if the rest of `condition` holds too: an update pipeline, atomic.

        The caller reads the record afterwards, where it needs it: for findAndModify, and for a condition with `$expr`,
        the local stack's server looks at every document; for an update without these it uses the id.
        """
        assert "_id" in condition
        result = await self._documents.update_one(condition, [pipeline_stage(changes)])
        return bool(result.matched_count)

    async def _collection_of(self, document_id: str) -> str:
        """The collection of the document, "" where there is no such document."""
        record = await self._documents.find_one({"_id": document_id}, {"collection": 1})
        return str((record or {}).get("collection", ""))


def pipeline_stage(changes: dict[str, Any]) -> dict[str, Any]:
    return {"$set": {**changes, "updated_at": "$$NOW"}}


def failure_fields(failure: Failure) -> dict[str, Any]:
    """Texts are literals: a message may begin with a dollar sign, which would make it an expression."""
    error = {"code": failure.code, "stage": failure.stage, "message": _storable(failure.message)}
    return {"stage": {"$literal": failure.stage}, "error": {"$literal": error}}


def event(name: str, *, attempt: Any = "$attempts", worker: Any = "$owner", detail: Failure | None = None) -> Record:
    """Appends an event to the document's history, which keeps the latest."""
    text = _storable(f"{detail.code} in {detail.stage}: {detail.message}" if detail else "")
    line = {"at": "$$NOW", "event": name, "attempt": attempt, "worker": worker, "detail": {"$literal": text}}
    whole = {"$concatArrays": [{"$ifNull": ["$story", []]}, [line]]}
    return {"story": {"$slice": [whole, -_LONGEST_HISTORY]}}


def event_of(line: object) -> Event | None:
    """None for what is no event as this release, or an older one, writes it."""
    if not isinstance(line, Mapping) or not isinstance(at := line.get("at"), datetime):
        return None
    reader = Reader(line)
    texts = [reader.text(name, optional=True) for name in ("event", "worker", "detail")]
    return Event(at, texts[0], reader.whole("attempt", optional=True), *texts[1:])


def _storable(text: str) -> str:
    """Without lone surrogates, which come from file names and damaged texts."""
    return text.encode("utf-8", "replace").decode()


def if_else(condition: dict[str, Any], then: Any, otherwise: Any) -> dict[str, Any]:
    return {"$cond": [condition, then, otherwise]}


def ms_from_now(lease_ms: int) -> dict[str, Any]:
    return {"$add": [NOW_MS, lease_ms]}
