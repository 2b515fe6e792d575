"""Evaluate a filter for a document."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from ingestion.filters.expression import (
    Among,
    And,
    Compared,
    Exists,
    FieldType,
    Filter,
    Has,
    Like,
    Name,
    Not,
    Or,
    Order,
    Value,
)
from ingestion.model import Document

_ORDERS: Final[dict[Order, Callable[[Any, Any], bool]]] = {
    Order.LESS: operator.lt,
    Order.AT_MOST: operator.le,
    Order.GREATER: operator.gt,
    Order.AT_LEAST: operator.ge,
}
_WILDCARDS: Final = {"*": ".*", "?": "."}


def matches(wanted: Filter, document: Document) -> bool:
    match wanted:
        case And(parts):
            return all(matches(part, document) for part in parts)
        case Or(parts):
            return any(matches(part, document) for part in parts)
        case Not(part):
            return not matches(part, document)
        case Has(tag):
            return tag in document.tags
        case Exists(name):
            return bool(document.tags) if name.type is FieldType.TAGS else bool(_values(document, name))
    return any(value_matches(wanted, value) for value in _values(document, wanted.name))


def value_matches(wanted: Among | Compared | Like, value: Value) -> bool:
    """Whether the condition holds for a field with this value."""
    match wanted:
        case Among(_, allowed):
            return any(_are_equal(value, one) for one in allowed)
        case Compared(_, order, bound):
            return _is_ordered(value, bound) and _ORDERS[order](value, bound)
        case Like(_, glob):
            return isinstance(value, str) and _pattern(glob).match(value) is not None


def glob_pattern(glob: str) -> str:
    """A regular expression that Python and MongoDB read alike. The dot has to match line ends."""
    body = "".join(_WILDCARDS.get(one) or re.escape(one) for one in glob)
    return f"^{body}(?![\\s\\S])"


@lru_cache(256)
def _pattern(glob: str) -> re.Pattern[str]:
    return re.compile(glob_pattern(glob), re.DOTALL)


def _values(document: Document, name: Name) -> list[Value]:
    """The value, if there is one. A field of a document without text, such as a missing key, has none."""
    if name.is_metadata:
        return [document.metadata[name.name]] if name.name in document.metadata else []
    value = _field(document, name)
    return [] if value in ("", None) else [value]


def _field(document: Document, name: Name) -> Any:
    match name.name:
        case "document_id":
            return document.id
        case "uploaded":
            return document.created_at
        case "state":
            return document.state.value
        case other:
            return getattr(document, other)


def _are_equal(one: Value, other: Value) -> bool:
    return _kind(one) is _kind(other) and one == other


def _is_ordered(one: Value, other: Value) -> bool:
    """Whether the two are of one type, and that type has an order."""
    return _kind(one) is _kind(other) and _kind(one) in (str, float, datetime)


def _kind(value: Value) -> type:
    """An integer and a float are one type, and a bool is another."""
    if isinstance(value, datetime):
        return datetime
    return float if isinstance(value, int | float) and not isinstance(value, bool) else type(value)
