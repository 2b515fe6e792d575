"""Convert MongoDB records of collections: state, archive, and binding to embedders."""

from __future__ import annotations

from collections.abc import Mapping

from ingestion.adapters.mongo.fields import FieldReader, MongoRecord, moment_of
from ingestion.catalogue.generations import FIRST, Binding, Generation
from ingestion.catalogue.states import Archive, CollectionRecord, CollectionState
from ingestion.errors import BadRecord, CollectionArchived, NewerRecord


def binding_of(record: MongoRecord) -> Binding:
    """Return the binding in the record. Raises BadRecord."""
    try:
        return _binding_of(record)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise BadRecord(f"the record of collection {record.get('_id')!r} cannot be read: {error!r}") from error


def _binding_of(record: MongoRecord) -> Binding:
    coming = record.get("next")
    return Binding(
        collection=record["_id"],
        current=Generation(int(record.get("generation") or FIRST), record["embedder"], int(record["dim"])),
        next=None if coming is None else _generation_of(coming),
        is_closing=bool(coming and coming["closing"]),
        leaving=tuple(_generation_of(leaving) for leaving in record.get("leaving") or ()),
        retired=frozenset(record.get("retired") or ()),
    )


def _generation_of(record: MongoRecord) -> Generation:
    return Generation(int(record["generation"]), record["embedder"], int(record["dim"]))


def collection_of(record: MongoRecord) -> CollectionRecord:
    """Return the collection in the record. Raises BadRecord."""
    reader = FieldReader(record)
    collection = CollectionRecord(
        name=reader.text("_id"),
        embedder=reader.text("embedder"),
        dim=reader.whole("dim"),
        generation=reader.whole("generation", optional=True) or FIRST,
        state=CollectionState(reader.text("state", CollectionState.ACTIVE, optional=True)),
        archive=_archive_of(record.get("archive")),
        last_used_at=moment_of(record.get("last_used_at")),
    )
    reader.require_whole("collection")
    return collection


def _archive_of(record: object) -> Archive | None:
    if not record:
        return None
    if not isinstance(record, Mapping):
        raise BadRecord(f"an archive is a {type(record).__name__}")
    reader = FieldReader(record)
    counts = {name: reader.whole(name, optional=True) for name in ("documents", "pages", "rows", "size_bytes")}
    archive = Archive(reader.text("id"), **counts, backup=reader.text("backup", optional=True))
    reader.require_whole("an archive")
    return archive


def require_active(record: MongoRecord) -> None:
    """Raises CollectionArchived if the record's state allows no use, NewerRecord if this release does not know it.

    Only `_id` and `state` of the record are read.
    """
    state, name = CollectionState(str(record.get("state", CollectionState.ACTIVE))), record["_id"]
    if state is CollectionState.ACTIVE:
        return
    if not state.is_known:
        raise NewerRecord(f"collection {name!r} is {state.value!r}: use it with the release that put it there")
    if state is CollectionState.DROPPING:
        raise CollectionArchived(f"collection {name!r} is being dropped; use it again once that is done")
    if state in (CollectionState.RECEIVING, CollectionState.RESTORING, CollectionState.OPENING):
        raise CollectionArchived(f"collection {name!r} is being restored; use it again once that is done")
    raise CollectionArchived(f"collection {name!r} is archived; `pagemill collections restore {name}` brings it back")
