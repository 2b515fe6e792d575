"""Record which dead letters were replayed or discarded."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime

from pymongo.errors import DuplicateKeyError

from ingestion.adapters.mongo.database import MongoPort
from ingestion.adapters.mongo.errors import translated
from ingestion.adapters.mongo.fields import moment_of
from ingestion.model import LetterMark


class MongoDeadLetterNotes(MongoPort):
    """Implements the port DeadLetterNotes."""

    @translated
    async def mark_letter(self, mark: LetterMark) -> bool:
        try:
            await self._letters.insert_one(
                {"_id": mark.letter_id, "action": mark.action, "by": mark.by, "why": mark.why, "at": datetime.now(UTC)}
            )
        except DuplicateKeyError:
            return False
        return True

    @translated
    async def letter_marks(self, letter_ids: Collection[str]) -> dict[str, LetterMark]:
        found = await self._letters.find({"_id": {"$in": list(letter_ids)}}).to_list(None)
        return {
            record["_id"]: LetterMark(
                letter_id=record["_id"],
                action=str(record.get("action", "")),
                by=str(record.get("by", "")),
                why=str(record.get("why", "")),
                at=moment_of(record.get("at")),
            )
            for record in found
        }
