"""Read a collection's binding to its embedders from its record."""

from __future__ import annotations

from ingestion.adapters.mongo.records import Record
from ingestion.catalogue.generations import FIRST, Binding, Generation
from ingestion.errors import BadRecord


def binding_of(record: Record) -> Binding:
    """Return the binding in the record. Raises BadRecord."""
    try:
        return _binding_of(record)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise BadRecord(f"the record of collection {record.get('_id')!r} cannot be read: {error!r}") from error


def _binding_of(record: Record) -> Binding:
    coming = record.get("next")
    return Binding(
        collection=record["_id"],
        current=Generation(int(record.get("generation") or FIRST), record["embedder"], int(record["dim"])),
        next=None if coming is None else _generation_of(coming),
        is_closing=bool(coming and coming["closing"]),
        leaving=tuple(_generation_of(leaving) for leaving in record.get("leaving") or ()),
        retired=frozenset(record.get("retired") or ()),
    )


def _generation_of(record: Record) -> Generation:
    return Generation(int(record["generation"]), record["embedder"], int(record["dim"]))
