"""Conditions on the formats of what is kept beside a document's vectors: sign codes and terms."""

from __future__ import annotations

from typing import Any

from ingestion.model import DocumentState


def with_earlier_format(field: str, current: int, collection: str | None) -> dict[str, Any]:
    """Ready documents without a format, or with one below `current`. A record of an earlier release has no format.

    Formats of newer releases are left alone.
    """
    wanted: dict[str, Any] = {"state": DocumentState.READY.value, field: {"$in": [None, *range(current)]}}
    return wanted if collection is None else {**wanted, "collection": collection}


def recorded_as(value: int, default: int = 0) -> Any:
    """The condition for a field that records of earlier releases lack where it has its default."""
    return {"$in": [None, value]} if value == default else value
