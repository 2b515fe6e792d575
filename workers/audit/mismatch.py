"""The findings of an audit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final, TypeAlias

import structlog

from ingestion.errors import as_ingest_error
from ingestion.ports import BlobEntry

log = structlog.get_logger(__name__)

STORES: Final = ("mongodb", "s3", "milvus")


class MismatchKind(StrEnum):
    MISSING = "missing"
    """A ready document lacks it. Only a new upload of the file restores it, unless `is_remade`."""
    EXTRA = "extra"
    """It is among a ready document's objects or rows, and the document does not refer to it."""
    ORPHAN = "orphan"
    """It belongs to no document."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One mismatch, in one of STORES. `what` names the first of `count` things.

    `document_id` and `collection` are empty where they are not known.
    """

    store: str
    kind: MismatchKind
    what: str
    count: int
    document_id: str = ""
    collection: str = ""
    is_repaired: bool = False
    is_remade: bool = False
    """What is missing is made again by the janitor: by an audit that repairs, and its next round."""


@dataclass(slots=True)
class TooYoung:
    """Counts objects without a record that are too young to be orphans: they may be those of an upload under way."""

    objects: int = 0
    judged_in_s: float = 0.0
    """After which the youngest of them is old enough."""

    def note(self, entries: Sequence[BlobEntry], grace: timedelta) -> None:
        self.objects += len(entries)
        youngest = max(entry.modified for entry in entries)
        age = min(datetime.now(UTC) - youngest, grace)  # an object of unknown time is never old
        self.judged_in_s = max(self.judged_in_s, min(grace, grace - age).total_seconds())


@dataclass(slots=True)
class NotJudged:
    """Parts that an audit could not check, such as unreadable records, each with its cause."""

    causes: dict[str, str] = field(default_factory=dict)

    def note(self, what: str, error: Exception) -> None:
        """Log it, once for each `what`."""
        cause = as_ingest_error(error).message
        if what not in self.causes:
            log.error("not judged", what=what, cause=cause)
        self.causes[what] = cause


Recheck: TypeAlias = Callable[[], Awaitable[list[Mismatch]]]
"""Checks one suspect again. Returns no mismatch where a change was only in progress."""
