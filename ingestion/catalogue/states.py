"""What a collection is: its states, its archive, and where that lies."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from ingestion.catalogue.generations import index_of
from ingestion.open_enum import OpenStrEnum

ARCHIVES_PREFIX: Final = "archives/"
"""Every object of every archive is under it."""


class CollectionState(OpenStrEnum):
    """Only in ACTIVE may anybody upload, search or work. Each move is one compare-and-set."""

    ACTIVE = "active"
    ARCHIVING = "archiving"
    """Being packed; nothing has been removed yet, so there is a way back."""
    FREEING = "freeing"
    """The archive is complete and verified; what it holds is being removed from MongoDB and Milvus."""
    ARCHIVED = "archived"
    RESTORING = "restoring"
    """Being brought back; the archive is still complete."""
    OPENING = "opening"
    """Everything is back; the archive is being removed."""
    DROPPING = "dropping"

    @property
    def is_under_way(self) -> bool:
        """True where somebody has begun something that has to be finished."""
        return self not in (CollectionState.ACTIVE, CollectionState.ARCHIVED)

    @property
    def shown(self) -> str:
        """As people need to know it: active, archiving, archived, restoring or dropping."""
        return _SHOWN.get(self, self.value)


_SHOWN: Final = {CollectionState.FREEING: "archiving", CollectionState.OPENING: "restoring"}


@dataclass(frozen=True, slots=True)
class Archive:
    """What an archive holds. Its objects are under `archive_prefix(collection, id)`."""

    id: str
    documents: int = 0
    pages: int = 0
    rows: int = 0
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class CollectionRecord:
    """What MongoDB keeps of a collection that an embedder is bound to. Times are UTC.

    `archive` is there in every state but ACTIVE; in ARCHIVING it is not complete. `generation` is that of the vectors
    that are searched.
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
        """What the vector store calls the vectors that are searched."""
        return index_of(self.name, self.generation)


@dataclass(frozen=True, slots=True)
class CollectionTotals:
    """What the records of a collection's documents come to: `documents` by state, `source_bytes` of uploads."""

    documents: Counter[str] = field(default_factory=Counter)
    pages: int = 0
    source_bytes: int = 0


def archives_of(collection: str) -> str:
    """The prefix of every archive of the collection, of attempts that were cut off too."""
    return f"{ARCHIVES_PREFIX}{collection}/"


def archive_prefix(collection: str, archive_id: str) -> str:
    return f"{archives_of(collection)}{archive_id}/"
