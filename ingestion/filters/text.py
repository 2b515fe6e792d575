"""Write a filter as text. `parse_filter` reads the same filter from it."""

from __future__ import annotations

import json
from datetime import datetime

from ingestion.filters.expression import (
    FIELDS,
    METADATA_PREFIX,
    Among,
    And,
    Compared,
    Exists,
    Filter,
    Has,
    Like,
    Name,
    Not,
    Or,
    Value,
)
from ingestion.filters.tokens import KEYWORDS


def filter_text(wanted: Filter) -> str:
    match wanted:
        case Among(name, (value,)):
            return f"{_name(name)} = {_value(value)}"
        case Among(name, values):
            return f"{_name(name)} in ({', '.join(map(_value, values))})"
        case Compared(name, order, value):
            return f"{_name(name)} {order} {_value(value)}"
        case Like(name, glob):
            return f"{_name(name)} like {_value(glob)}"
        case Has(tag):
            return f"tags has {_value(tag)}"
        case Exists(name):
            return f"{_name(name)} exists"
        case Not(part):
            return f"not {_inner(part)}"
        case And(parts):
            return " and ".join(map(_inner, parts))
        case Or(parts):
            return " or ".join(map(_inner, parts))


def _inner(part: Filter) -> str:
    return f"({filter_text(part)})" if isinstance(part, And | Or) else filter_text(part)


def _name(name: Name) -> str:
    needs_prefix = name.is_metadata and (_is_ambiguous(name.name))
    return f"{METADATA_PREFIX}{name.name}" if needs_prefix else name.name


def _is_ambiguous(key: str) -> bool:
    return key in FIELDS or key.lower() in KEYWORDS or key.startswith(METADATA_PREFIX)


def _value(value: Value) -> str:
    if isinstance(value, datetime):
        return f'"{value.isoformat(timespec="milliseconds")}"'
    return json.dumps(value, ensure_ascii=False)
