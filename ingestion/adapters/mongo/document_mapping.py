"""Convert documents and pages to MongoDB records and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, Final

import structlog
from bson.int64 import Int64

from ingestion.adapters.mongo.fields import FieldReader, MongoRecord, moment_of
from ingestion.catalogue.generations import FIRST
from ingestion.errors import BadRecord
from ingestion.model import (
    DEFAULT_TENANT,
    MAX_PAGE_KEY,
    PDF_MEDIA_TYPE,
    Document,
    DocumentState,
    Failure,
    Metadata,
    Note,
    PageRecord,
    Priority,
    Scalar,
    TextPages,
    tenant_of,
)

log = structlog.get_logger(__name__)

UNREADABLE: Final = "unreadable"
"""The state shown for a document without a readable state."""


def recorded_tenant(tenant: str) -> str | None:
    """The field `tenant` of a document's record. Records of the default tenant have none, as in earlier releases."""
    return None if tenant == DEFAULT_TENANT else tenant


def record_of(document: Document) -> dict[str, Any]:
    values = asdict(document)
    if (tenant := recorded_tenant(tenant_of(document.collection))) is not None:
        values["tenant"] = tenant
    id_, lease_until_ms = values.pop("id"), values.pop("lease_until_ms")
    values.pop("damage")
    if document.priority is not None:
        values["flow"] = document.flow.name
    return {
        "_id": id_,
        **values,
        **labels_record(document.metadata, document.tags),
        "state": document.state.value,
        "first_page_key": Int64(document.first_page_key),
        "lease_until": Int64(lease_until_ms),
    }


def document_of(record: MongoRecord) -> Document:
    """Return the document. Never raises: an unreadable field gets its default, and `damage` names the field.

    Unknown fields are ignored: a newer release may have added them.
    """
    reader = FieldReader(record)
    state = reader.text("state", UNREADABLE)
    return Document(
        id=str(record.get("_id", "")),
        collection=reader.text("collection"),
        filename=reader.text("filename"),
        object_key=reader.text("object_key"),
        sha256=reader.text("sha256"),
        size_bytes=reader.whole("size_bytes"),
        pages=reader.whole("pages", below=MAX_PAGE_KEY),
        first_page_key=reader.whole("first_page_key", below=MAX_PAGE_KEY),
        media_type=reader.text("media_type", PDF_MEDIA_TYPE, optional=True),
        state=DocumentState(state),
        stage=reader.text("stage", optional=True),
        pages_done=reader.whole("pages_done"),
        generation=reader.whole("generation", FIRST, optional=True),
        next_generation=reader.whole("next_generation", optional=True),
        next_pages_done=reader.whole("next_pages_done", optional=True),
        codes_format=reader.whole("codes_format", optional=True),
        terms_format=reader.whole("terms_format", optional=True),
        dpi=reader.whole("dpi", optional=True),
        text_pages=_text_pages_of(record.get("text_pages")),
        notes=_notes_of(record.get("notes")),
        attempts=reader.whole("attempts"),
        outages=reader.whole("outages", optional=True),
        fence=reader.whole("fence"),
        owner=reader.text("owner", optional=True),
        lease_until_ms=reader.whole("lease_until"),
        priority=Priority.known(record.get("priority")),  # it decides the order alone: an unknown one is no damage,
        delivery=reader.text("delivery", optional=True),
        outbox=reader.text("outbox"),
        letter=reader.text("letter", optional=True),
        error=_failure_of(record.get("error")),
        created_at=moment_of(record.get("created_at")),
        requeued_at=moment_of(record.get("requeued_at")),
        updated_at=moment_of(record.get("updated_at")),
        ready_at=moment_of(record.get("ready_at")),
        request_id=reader.text("request_id", optional=True),
        traceparent=reader.text("traceparent", optional=True),
        metadata=_metadata_of(record.get("metadata")),
        tags=_tags_of(record.get("tags")),
        key=reader.text("key", optional=True),
        revision=reader.whole("revision", optional=True),
        replaced_by=reader.text("replaced_by", optional=True),
        duplicate_of=reader.text("duplicate_of", optional=True),
        damage="; ".join(reader.damage),
    )


def labels_record(metadata: Metadata, tags: Sequence[str]) -> dict[str, Any]:
    """Return the fields of metadata and tags. The keys are sorted, so that equal metadata are equal records."""
    return {"metadata": [{"k": key, "v": metadata[key]} for key in sorted(metadata)], "tags": list(tags)}


def _metadata_of(entries: Any) -> dict[str, Scalar]:
    """Metadata decide nothing about the work on a document, so unreadable ones are left out and are no damage."""
    pairs = (entry for entry in (entries if isinstance(entries, list) else ()) if isinstance(entry, Mapping))
    return {
        pair["k"]: int(pair["v"]) if isinstance(pair["v"], Int64) else pair["v"]
        for pair in pairs
        if isinstance(pair.get("k"), str) and isinstance(pair.get("v"), str | int | float | None)
    }


def _tags_of(tags: Any) -> tuple[str, ...]:
    return tuple(tag for tag in (tags if isinstance(tags, list) else ()) if isinstance(tag, str))


def _failure_of(error: Any) -> Failure | None:
    if not isinstance(error, Mapping):
        return None if error is None else Failure("internal", "", str(error))
    return Failure(*(str(error.get(name) or "") for name in ("code", "stage", "message")))


def _text_pages_of(counts: Any) -> TextPages | None:
    """Counts are shown and decide nothing, so unreadable ones are no damage."""
    if not isinstance(counts, Mapping):
        return None
    reader = FieldReader(counts)
    return TextPages(**{field.name: reader.whole(field.name, optional=True) for field in fields(TextPages)})


def _notes_of(notes: Any) -> tuple[Note, ...]:
    """Notes are shown and decide nothing, so unreadable ones are left out."""
    return tuple(found for one in notes if (found := _note_of(one))) if isinstance(notes, list) else ()


def _note_of(record: Any) -> Note | None:
    if not isinstance(record, Mapping):
        return None
    reader = FieldReader(record)
    pages = record.get("pages")
    numbers = tuple(one for one in pages if isinstance(one, int)) if isinstance(pages, list) else ()
    subject, count = reader.text("subject", optional=True), reader.whole("count", optional=True)
    return Note(reader.text("kind"), subject, numbers, count)


def page_record_of(page: PageRecord) -> dict[str, Any]:
    values = asdict(page)
    return {"_id": Int64(values.pop("page_key")), **values}


def page_of(record: MongoRecord) -> PageRecord:
    """Return the page, without its counts for the next generation. Raises BadRecord.

    `text` is empty if the record was read without it.
    """
    reader = FieldReader(record)
    page = PageRecord(
        page_key=reader.whole("_id", below=MAX_PAGE_KEY),
        document_id=reader.text("document_id"),
        page_number=reader.whole("page_number"),
        width_px=reader.whole("width_px"),
        height_px=reader.whole("height_px"),
        patches=reader.whole("patches"),
        image_key=reader.text("image_key"),
        text=reader.text("text", optional=True),
        rows=None if record.get("rows") is None else reader.whole("rows"),
        text_source=reader.text("text_source", optional=True),
        words=bytes(words) if isinstance(words := record.get("words"), bytes) else b"",  # shown only: no damage
    )
    reader.require_whole("page")
    return page


def pages_of(records: Iterable[MongoRecord]) -> Iterator[PageRecord]:
    """Yield the readable pages and log the others. An audit reports a page without a readable record as missing."""
    for record in records:
        try:
            yield page_of(record)
        except BadRecord as error:
            log.warning("record left out", cause=error.message)
