"""Make a MongoDB query of a filter. It selects the documents for which `ingestion.filters.matches` is true.

The metadata of a record is a list of `{k, v}`, so that one index serves all keys. A comparison by order is true for
values of its own type only, in MongoDB as in `matches`. A field that is an empty text has no value.
"""

from __future__ import annotations

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
)
from ingestion.filters.matching import glob_pattern, value_matches
from ingestion.model import PDF_MEDIA_TYPE

FIELD_OF: Final = {"document_id": "_id", "uploaded": "created_at"}
"""The fields of records that have other names than in filters."""
_ORDERS: Final = {Order.LESS: "$lt", Order.AT_MOST: "$lte", Order.GREATER: "$gt", Order.AT_LEAST: "$gte"}
_DEFAULTS: Final = {"media_type": PDF_MEDIA_TYPE}
"""The values of fields that records of earlier releases lack."""


def query_of(wanted: Filter) -> dict[str, Any]:
    match wanted:
        case And(parts):
            return {"$and": [query_of(part) for part in parts]}
        case Or(parts):
            return {"$or": [query_of(part) for part in parts]}
        case Not(part):
            return {"$nor": [query_of(part)]}
        case Has(tag):
            return {"tags": tag}
        case Exists(name):
            return _exists(name)
        case _:
            return _value_is(wanted)


def _value_is(wanted: Among | Compared | Like) -> dict[str, Any]:
    name, condition = wanted.name, _condition(wanted)
    if name.is_metadata:
        return {"metadata": {"$elemMatch": {"k": name.name, "v": condition}}}
    field = FIELD_OF.get(name.name, name.name)
    if name.type is FieldType.TEXT:
        condition = {**condition, "$ne": ""}
    if name.name in _DEFAULTS and value_matches(wanted, _DEFAULTS[name.name]):
        return {"$or": [{field: condition}, {field: None}]}
    return {field: condition}


def _condition(wanted: Among | Compared | Like) -> dict[str, Any]:
    match wanted:
        case Among(_, values):
            return {"$in": list(values)}
        case Compared(_, order, value):
            return {_ORDERS[order]: value}
        case Like(_, glob):
            return {"$regex": glob_pattern(glob), "$options": "s"}


def _exists(name: Name) -> dict[str, Any]:
    if name.is_metadata:
        return {"metadata.k": name.name}
    if name.type is FieldType.TAGS:
        return {"tags.0": {"$exists": True}}
    missing = [""] if name.name in _DEFAULTS else ["", None]
    return {FIELD_OF.get(name.name, name.name): {"$nin": missing}}
