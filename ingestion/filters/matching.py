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
            return bool(document.tags) if name.type is FieldType.TAGS else bool(values_of(document, name))
    return any(value_matches(wanted, value) for value in values_of(document, wanted.name))


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
    """As `glob_pattern`. A part between two `*` that was found is not looked for again: many `*` cost no more time."""
    first, *others = ("".join(_WILDCARDS.get(one) or re.escape(one) for one in part) for part in glob.split("*"))
    if not others:
        return re.compile(rf"{first}\Z", re.DOTALL)
    between = "".join(f"(?>.*?{part})" for part in others[:-1] if part)
    return re.compile(rf"{first}{between}.*{others[-1]}\Z", re.DOTALL)


def values_of(document: Document, name: Name) -> list[Value]:
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
    return value_kind(one) is value_kind(other) and one == other


def _is_ordered(one: Value, other: Value) -> bool:
    """Whether the two are of one type, and that type has an order."""
    return value_kind(one) is value_kind(other) and value_kind(one) in (str, float, datetime)


def value_kind(value: Value) -> type:
    """An integer and a float are one type, and a bool is another."""
    if isinstance(value, datetime):
        return datetime
    return float if isinstance(value, int | float) and not isinstance(value, bool) else type(value)
