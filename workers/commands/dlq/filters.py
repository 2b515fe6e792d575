"""The filters of `pagemill dlq`, as they are typed. Every `pagemill` command loads this file: keep imports light."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

import typer

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class StatusOption(StrEnum):
    """Values of `--state`: those of ingestion.replay.entries.DeadLetterStatus, and `all`."""

    OPEN = "open"
    REPLAYED = "replayed"
    DISCARDED = "discarded"
    MOVED_ON = "moved-on"
    ARCHIVED = "archived"
    DELETED = "deleted"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Filters:
    """A filter that was not given takes every letter. False where no filter was given."""

    ids: list[str] | None = None
    code: str | None = None
    collection: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    tenant: str | None = None

    def __bool__(self) -> bool:
        return any((self.ids, self.code, self.collection, self.since, self.until, self.tenant))


def parse_time(text: str) -> datetime:
    """Reads ISO 8601, in UTC where it has no zone, and an age such as 90s, 30m, 2h, 3d, 1w.

    Raises BadParameter.
    """
    try:
        if age := re.fullmatch(r"(\d+)([smhdw])", text):
            return datetime.now(UTC) - timedelta(**{_UNITS[age[2]]: int(age[1])})
        found = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(f"{text!r} is neither a time such as 2026-05-01T12:00 nor an age: 2h, 3d") from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)
