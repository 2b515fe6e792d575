"""A collection's record, its states, and the keys of its archive."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from ingestion.catalogue.generations import index_of
from ingestion.open_enum import OpenStrEnum

ARCHIVES_PREFIX: Final = "archives/"
"""The prefix of all objects of all archives."""


class CollectionState(OpenStrEnum):
    """Uploads, searches and workers need ACTIVE. Each change of state is one compare-and-set."""

    ACTIVE = "active"
    ARCHIVING = "archiving"
    """Being packed. Nothing has been removed yet, so this can be undone."""
    FREEING = "freeing"
    """The archive is complete and verified. Its contents are being removed from MongoDB and Milvus."""
    ARCHIVED = "archived"
    RESTORING = "restoring"
    """Being restored. The archive is still complete."""
    OPENING = "opening"
    """Everything is restored. The archive is being removed."""
    RECEIVING = "receiving"
    """A backup is being fetched. Nothing can be used yet, so an interrupted fetch is dropped."""
    DROPPING = "dropping"

    @property
    def is_under_way(self) -> bool:
        """True if an operation has begun and must be finished."""
        return self not in (CollectionState.ACTIVE, CollectionState.ARCHIVED)

    @property
    def shown(self) -> str:
        """The state shown to users: active, archiving, archived, restoring or dropping."""
        return _SHOWN.get(self, self.value)


_SHOWN: Final = {
    CollectionState.FREEING: "archiving",
    CollectionState.OPENING: "restoring",
    CollectionState.RECEIVING: "restoring",
}


@dataclass(frozen=True, slots=True)
class Archive:
    """The contents of an archive. Its objects are under `archive_prefix(collection, id)`.

    `backup` is the id of the backup that it was fetched from, empty for others.
    """

    id: str
    documents: int = 0
    pages: int = 0
    rows: int = 0
    size_bytes: int = 0
    backup: str = ""


@dataclass(frozen=True, slots=True)
class CollectionRecord:
    """The record of a collection that is bound to an embedder. Times are UTC.

    `archive` is None in ACTIVE; in ARCHIVING it is not complete. `generation` is the one that is searched.
    """

    name: str
    embedder: str
    dim: int
    generation: int
    state: CollectionState
    archive: Archive | None
    last_used_at: datetime | None

    @property
    def index(self) -> str:
        """The name of the searched generation in the vector store."""
        return index_of(self.name, self.generation)


@dataclass(frozen=True, slots=True)
class CollectionTotals:
    """Totals of a collection: `documents` by state, `pages`, and the size of all uploads in `source_bytes`."""

    documents: Counter[str] = field(default_factory=Counter)
    pages: int = 0
    source_bytes: int = 0


def archives_of(collection: str) -> str:
    """Return the prefix of all archives of the collection, also of interrupted attempts."""
    return f"{ARCHIVES_PREFIX}{collection}/"


def archive_prefix(collection: str, archive_id: str) -> str:
    return f"{archives_of(collection)}{archive_id}/"
