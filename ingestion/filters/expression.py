"""The parts of a filter."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, TypeAlias

from ingestion.model import Scalar

MAX_CHARS: Final = 4_000
"""Of the text of a filter."""
MAX_DEPTH: Final = 16
"""Of parentheses and `not` inside each other."""
MAX_VALUES: Final = 256
"""Of a list after `in`."""
METADATA_PREFIX: Final = "metadata."
"""Before the key of a metadata entry. It is needed only where the key is also the name of a field."""


class FieldType(StrEnum):
    TEXT = "text"
    NUMBER = "number"
    MOMENT = "moment"
    TAGS = "tags"


FIELDS: Final = {
    "document_id": FieldType.TEXT,
    "filename": FieldType.TEXT,
    "key": FieldType.TEXT,
    "media_type": FieldType.TEXT,
    "pages": FieldType.NUMBER,
    "state": FieldType.TEXT,
    "tags": FieldType.TAGS,
    "uploaded": FieldType.MOMENT,
}
"""The fields of every document, besides its metadata."""

Value: TypeAlias = Scalar | datetime


class Order(StrEnum):
    """A comparison by order. Values of different types are never in order."""

    LESS = "<"
    AT_MOST = "<="
    GREATER = ">"
    AT_LEAST = ">="


@dataclass(frozen=True, slots=True)
class Name:
    """A field of FIELDS, or the key of a metadata entry."""

    name: str
    is_metadata: bool = False

    @property
    def type(self) -> FieldType | None:
        """None for a metadata entry, which may have any scalar type."""
        return None if self.is_metadata else FIELDS[self.name]


@dataclass(frozen=True, slots=True)
class Among:
    """The value is one of `values`: equality where there is one. The type counts: 1 is neither true nor "1"."""

    name: Name
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Compared:
    name: Name
    order: Order
    value: Value


@dataclass(frozen=True, slots=True)
class Like:
    """The text matches a glob: `*` stands for any characters, `?` for one. Upper and lower case differ."""

    name: Name
    glob: str


@dataclass(frozen=True, slots=True)
class Has:
    """The document has the tag."""

    tag: str


@dataclass(frozen=True, slots=True)
class Exists:
    """The document has a metadata entry of that key, perhaps null, or a field that is not empty."""

    name: Name


@dataclass(frozen=True, slots=True)
class Not:
    part: Filter


@dataclass(frozen=True, slots=True)
class And:
    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Or:
    parts: tuple[Filter, ...]


Filter: TypeAlias = Among | Compared | Like | Has | Exists | Not | And | Or
