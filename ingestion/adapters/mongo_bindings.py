"""What the record of a collection says of its vectors."""

from __future__ import annotations

from ingestion.adapters.mongo_records import Record
from ingestion.generations import FIRST, Binding, Generation


def binding_of(record: Record) -> Binding:
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
