"""Changes of a document's record: update pipelines, each one compare-and-set in the database."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from pymongo import ReturnDocument

from ingestion.adapters.mongo.database import MongoPort
from ingestion.adapters.mongo.fields import FieldReader, MongoRecord
from ingestion.adapters.mongo.stand_in import update_then_read
from ingestion.model import Event, Failure

NO_LEASE: Final = {"owner": "", "lease_until": 0}
_LONGEST_HISTORY: Final = 50


class DocumentChanges(MongoPort):
    """The base of the adapters that change a document's state."""

    async def _change(self, condition: dict[str, Any], changes: dict[str, Any]) -> bool:
        """Change one document by its id in one atomic update. Return False if `condition` does not hold."""
        assert "_id" in condition
        result = await self._documents.update_one(condition, [pipeline_stage(changes)])
        return bool(result.matched_count)

    async def _change_and_read(self, condition: dict[str, Any], stage: dict[str, Any]) -> MongoRecord | None:
        """Change one document by its id and return it as it is then. Return None if `condition` does not hold."""
        assert "_id" in condition
        if self._is_stand_in:
            return await update_then_read(self._documents, condition, stage)
        record: MongoRecord | None = await self._documents.find_one_and_update(
            condition, [stage], return_document=ReturnDocument.AFTER
        )
        return record

    async def _collection_and_key_of(self, document_id: str) -> tuple[str, str]:
        """Return the collection and the key of the document. Both are "" if there is no such document."""
        record = await self._documents.find_one({"_id": document_id}, {"collection": 1, "key": 1}) or {}
        return str(record.get("collection", "")), str(record.get("key") or "")


def pipeline_stage(changes: dict[str, Any]) -> dict[str, Any]:
    return {"$set": {**changes, "updated_at": "$$NOW"}}


def failure_fields(failure: Failure) -> dict[str, Any]:
    """Return the fields of a failure. Texts are literals, because text that begins with `$` is an expression."""
    error = {"code": failure.code, "stage": failure.stage, "message": _storable(failure.message)}
    return {"stage": {"$literal": failure.stage}, "error": {"$literal": error}}


def event(
    name: str, *, attempt: Any = "$attempts", worker: Any = "$owner", detail: Failure | None = None
) -> MongoRecord:
    """Return the field that appends an event to the document's history. The history keeps the latest events."""
    text = _storable(f"{detail.code} in {detail.stage}: {detail.message}" if detail else "")
    line = {"at": "$$NOW", "event": name, "attempt": attempt, "worker": worker, "detail": {"$literal": text}}
    whole = {"$concatArrays": [{"$ifNull": ["$story", []]}, [line]]}
    return {"story": {"$slice": [whole, -_LONGEST_HISTORY]}}


def event_of(line: object) -> Event | None:
    """Return the event. None if neither this release nor an older one can have written it."""
    if not isinstance(line, Mapping) or not isinstance(at := line.get("at"), datetime):
        return None
    reader = FieldReader(line)
    texts = [reader.text(name, optional=True) for name in ("event", "worker", "detail")]
    return Event(at, texts[0], reader.whole("attempt", optional=True), *texts[1:])


def _storable(text: str) -> str:
    """Replace lone surrogates, which file names and damaged texts contain: BSON cannot hold them."""
    return text.encode("utf-8", "replace").decode()
