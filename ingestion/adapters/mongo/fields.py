"""Read fields of MongoDB records that another release, or a person, may have written."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar

from ingestion.errors import BadRecord

T = TypeVar("T")

MongoRecord = Mapping[str, Any]


class FieldReader:
    """Reads fields by name and type. `damage` lists the fields that are missing or of another type."""

    def __init__(self, record: MongoRecord) -> None:
        self._record = record
        self.damage: list[str] = []

    def text(self, name: str, otherwise: str = "", *, optional: bool = False) -> str:
        """Return the text, `otherwise` if it is missing or damaged. An `optional` field may be missing."""
        value = self._value(name, optional)
        if value is None or isinstance(value, str):
            return otherwise if value is None else value
        return self._damaged(name, value, otherwise)

    def whole(self, name: str, otherwise: int = 0, *, optional: bool = False, below: int | None = None) -> int:
        """As `text`, for an integer. A database shell may have written it as a float.

        With `below`, a number that is negative or not smaller than `below` is damage.
        """
        value = self._value(name, optional)
        if value is None:
            return otherwise
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if is_whole or (isinstance(value, float) and value.is_integer()):
            if below is None or 0 <= value < below:
                return int(value)
            self.damage.append(f"{name} is {int(value)}")
            return otherwise
        return self._damaged(name, value, otherwise)

    def require_whole(self, kind: str) -> None:
        """Raises BadRecord if a field that was read is damaged."""
        if self.damage:
            raise BadRecord(f"{kind} {self._record.get('_id')!r} cannot be read: {'; '.join(self.damage)}")

    def _value(self, name: str, optional: bool) -> Any:
        value = self._record.get(name)
        if value is None and not optional:
            self.damage.append(f"{name} is missing")
        return value

    def _damaged(self, name: str, value: object, otherwise: T) -> T:
        self.damage.append(f"{name} is a {type(value).__name__}")
        return otherwise


def moment_of(value: object) -> datetime | None:
    """Return the time. None for another type, and for a time that Python's datetime cannot hold."""
    return value if isinstance(value, datetime) else None
