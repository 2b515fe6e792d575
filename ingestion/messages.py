"""The wire format of jobs and events: UTF-8 JSON objects that carry their version.

A reader accepts every version it knows and ignores fields it does not, so that a newer writer may add some.
"""

from __future__ import annotations

import json
from typing import Any, Final

from ingestion.errors import BadMessage
from ingestion.model import Document, IngestJob

JOB_VERSION: Final = 1
EVENT_VERSION: Final = 1

HEADER_TYPE: Final = "pagemill.type"
HEADER_VERSION: Final = "pagemill.version"

Headers = list[tuple[str, bytes]]


def encode_job(job: IngestJob) -> tuple[bytes, bytes, Headers]:
    """A job as (key, value, headers); the key is the document id, so a document's jobs share a partition."""
    body = {
        "version": JOB_VERSION,
        "document_id": job.document_id,
        "collection": job.collection,
        "filename": job.filename,
    }
    return job.document_id.encode(), _dump(body), _headers("job", JOB_VERSION)


def decode_job(value: bytes | None) -> IngestJob:
    """Raises BadMessage, with the reason, for anything that is not a job of a known version."""
    body = _load(value)
    if body.get("version") != JOB_VERSION:
        raise BadMessage(f"job version {body.get('version')!r} is not {JOB_VERSION}", stage="decode")
    fields = {name: body.get(name) for name in ("document_id", "collection", "filename")}
    for name, content in fields.items():
        if not isinstance(content, str) or not content:
            raise BadMessage(f"job field {name!r} is missing or not a string", stage="decode")
    return IngestJob(**fields)  # type: ignore[arg-type]


def encode_event(document: Document) -> tuple[bytes, bytes, Headers]:
    """A document's terminal change as (key, value, headers)."""
    error = document.error
    body = {
        "version": EVENT_VERSION,
        "document_id": document.id,
        "collection": document.collection,
        "filename": document.filename,
        "state": document.state.value,
        "pages": document.pages,
        "attempts": document.attempts,
        "error": {"code": error.code, "stage": error.stage, "message": error.message} if error else None,
    }
    return document.id.encode(), _dump(body), _headers("event", EVENT_VERSION)


def _headers(kind: str, version: int) -> Headers:
    return [(HEADER_TYPE, kind.encode()), (HEADER_VERSION, str(version).encode())]


def _dump(body: dict[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def _load(value: bytes | None) -> dict[str, Any]:
    try:
        body = json.loads(value or b"")
    except (ValueError, RecursionError) as error:
        raise BadMessage(f"message is not JSON: {error}", stage="decode") from error
    if not isinstance(body, dict):
        raise BadMessage("message is not a JSON object", stage="decode")
    return body
