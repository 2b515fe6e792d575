"""The wire format of jobs and events: UTF-8 JSON objects with a version.

A reader accepts every version that it knows and ignores unknown fields, so a newer writer may add fields. A retried
job keeps its key and value byte for byte. Headers say when it is due and where it was first read.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final, TypeAlias

from ingestion.errors import BadMessage, NewerRecord
from ingestion.model import Document, IngestJob, public_name, tenant_of
from ingestion.tracing import HEADER_REQUEST_ID, HEADER_TRACEPARENT

JOB_VERSION: Final = 1
EVENT_VERSION: Final = 1

HEADER_TYPE: Final = "pagemill.type"
HEADER_VERSION: Final = "pagemill.version"

HEADER_DUE_MS: Final = "pagemill.retry.due.ms"
HEADER_ORIGIN: Final = "pagemill.retry.origin"
HEADER_FAILED: Final = "pagemill.retry.failed"
"""The number of failed deliveries of the record that the ledger has not counted."""
HEADER_UNREADABLE: Final = "pagemill.unreadable"
"""On a record whose bytes could not be read: the reason."""
_OF_RETRIES: Final = (HEADER_DUE_MS, HEADER_ORIGIN)
_LONGEST_WAIT_S: Final = 7 * 86_400.0
"""The longest wait: a record that says it is due later is due then."""
_UNREADABLE = (LookupError, ValueError, TypeError, AttributeError, ArithmeticError)
"""The exceptions of a header that is missing, of another form, or null."""

Headers = list[tuple[str, bytes]]

Partition: TypeAlias = tuple[str, int]
"""(topic, partition number)."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The record in which a job was first read."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True)
class Record:
    """One consumed record. `job` is decoded once, so the class has no slots."""

    partition: Partition
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp_ms: int = 0
    """When it was published, by its writer's or the broker's clock, in Unix milliseconds. 0: unknown."""
    received_ns: int = field(default_factory=time.time_ns, compare=False)
    """The Unix time at which it was fetched."""
    is_offer: bool = field(default=False, compare=False)
    """Whether another worker may have taken its document. Then the record stands for another document."""
    waiting_since_ms: int = 0
    """Since when its document waits, where this is not known from the record."""

    @cached_property
    def job(self) -> IngestJob:
        """Raises BadMessage, NewerRecord as `decode_job` does."""
        return decode_job(self.value)

    @property
    def delivery(self) -> str:
        """The name of this record. The time tells it from a record of a topic that was deleted and made again."""
        topic, partition = self.partition
        return f"{topic}:{partition}:{self.offset}:{self.timestamp_ms}"

    @property
    def origin(self) -> Origin:
        """The first record of this job: this record itself, unless it is a retry that names another."""
        try:
            topic, partition, offset = dict(self.headers)[HEADER_ORIGIN].decode().rsplit(":", 2)
            return Origin(topic, int(partition), int(offset))
        except _UNREADABLE:
            return Origin(*self.partition, self.offset)

    @property
    def due_in_s(self) -> float:
        """The time that this job must still wait, by the clocks of its writer and of this machine."""
        try:
            wait_s = int(dict(self.headers)[HEADER_DUE_MS]) / 1000 - time.time()
        except _UNREADABLE:
            return 0.0
        return min(max(0.0, wait_s), _LONGEST_WAIT_S)

    @property
    def waited_s(self) -> float | None:
        """The time since the job was published, or, for a retry, since it was due. None if the time is unknown."""
        if self.timestamp_ms <= 0:
            return None
        now_ms = round(time.time() * 1000)
        if self.waiting_since_ms:
            return max(0, now_ms - self.waiting_since_ms) / 1000
        try:
            due_ms = int(dict(self.headers)[HEADER_DUE_MS])
        except _UNREADABLE:
            due_ms = 0
        return (now_ms - min(now_ms, max(self.timestamp_ms, due_ms))) / 1000

    @property
    def deliveries_failed(self) -> int:
        """The number of failed deliveries that the ledger has not counted, from the record's header."""
        try:
            return max(0, int(dict(self.headers)[HEADER_FAILED]))
        except _UNREADABLE:
            return 0

    def standing_for(self, document: Document) -> Record:
        """The record with the job of `document` in place of its own. Its place in the topic stays."""
        job = IngestJob.of(document)
        key, value, headers = encode_job(job)
        context = ((HEADER_REQUEST_ID, job.request_id), (HEADER_TRACEPARENT, job.traceparent))
        headers += [(name, text.encode()) for name, text in context if text]
        queued_at = document.requeued_at or document.created_at
        since_ms = round(queued_at.timestamp() * 1000) if queued_at else 0
        return replace(self, key=key, value=value, headers=tuple(headers), waiting_since_ms=since_ms)

    def failed_again(self) -> Record:
        """The record with one more failed delivery."""
        others = tuple(header for header in self.headers if header[0] != HEADER_FAILED)
        return replace(self, headers=(*others, (HEADER_FAILED, str(self.deliveries_failed + 1).encode())))


def first_headers(headers: Iterable[tuple[str, bytes]]) -> Headers:
    """`headers` without those that retries add."""
    return [header for header in headers if header[0] not in (*_OF_RETRIES, HEADER_FAILED)]


def retry_headers(record: Record, delay_ms: int) -> Headers:
    """The headers for publishing `record` again, due in `delay_ms`. Its own headers are kept."""
    origin = record.origin
    return [
        *(header for header in record.headers if header[0] not in _OF_RETRIES),
        (HEADER_ORIGIN, f"{origin.topic}:{origin.partition}:{origin.offset}".encode()),
        (HEADER_DUE_MS, str(round(time.time() * 1000) + delay_ms).encode()),
    ]


def encode_job(job: IngestJob) -> tuple[bytes, bytes, Headers]:
    """A job as (key, value, headers). The key is the document id, so a document's jobs share a partition."""
    body = {
        "version": JOB_VERSION,
        "document_id": job.document_id,
        "collection": job.collection,
        "filename": job.filename,
        "pages": job.pages,
    }
    return job.document_id.encode(), _dump(body), _headers("job", JOB_VERSION)


def decode_job(value: bytes | None) -> IngestJob:
    """Raises BadMessage, with the reason, where `value` is no job, and NewerRecord for a job of a later version."""
    body = _load(value)
    version = body.get("version")
    if type(version) is int and version > JOB_VERSION:
        raise NewerRecord(f"job version {version} is newer than {JOB_VERSION}", stage="decode")
    if version != JOB_VERSION:
        raise BadMessage(f"job version {body.get('version')!r} is not {JOB_VERSION}", stage="decode")
    fields = {name: body.get(name) for name in ("document_id", "collection", "filename")}
    for name, content in fields.items():
        if not isinstance(content, str) or not content or not _is_text(content):
            raise BadMessage(f"job field {name!r} is missing or not a string", stage="decode")
    pages = body.get("pages")  # older writers left it out
    return IngestJob(**fields, pages=pages if type(pages) is int and pages > 0 else 0)  # type: ignore[arg-type]


def _is_text(content: str) -> bool:
    """False for half of a surrogate pair, which JSON can spell and no store can hold."""
    return not any("\ud800" <= character <= "\udfff" for character in content)


def encode_event(document: Document) -> tuple[bytes, bytes, Headers]:
    """The event of a document's terminal change, as (key, value, headers)."""
    error = document.error
    body = {
        "version": EVENT_VERSION,
        "document_id": document.id,
        "tenant": tenant_of(document.collection),
        "collection": public_name(document.collection),
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
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _load(value: bytes | None) -> dict[str, Any]:
    try:
        body = json.loads(value or b"")
    except (ValueError, RecursionError) as error:
        raise BadMessage(f"message is not JSON: {error}", stage="decode") from error
    if not isinstance(body, dict):
        raise BadMessage("message is not a JSON object", stage="decode")
    return body
