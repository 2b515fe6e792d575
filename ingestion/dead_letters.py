"""Dead letters: failed jobs, with their key and value byte for byte and the cause in text headers.

The headers are named as in KIP-1191, `__dlq.errors.*`, and follow those that the record already had. The id of a
dead letter is made from its content, so one that is published twice, because a crash came before the acknowledgement,
keeps its id.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from ingestion import errors
from ingestion.errors import BadMessage, IngestError
from ingestion.messages import Headers, Origin, Record, decode_job, encode_job
from ingestion.model import Document, Failure, IngestJob

_PREFIX: Final = "__dlq.errors."
_MESSAGE_CHARS: Final = 2_000
_SHORT_MESSAGE_CHARS: Final = 200
_STACKTRACE_CHARS: Final = 16_000
_CUT_BYTES: Final = 200
_UNKNOWN: Final = "unknown"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter. `document_id` is empty where the record was no job. `headers` are the record's own."""

    id: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    origin: Origin
    group: str
    delivery_count: int
    failure: Failure
    exception_class: str
    stacktrace: str
    timestamp: datetime
    document_id: str = ""
    fence: int = 0
    whole_bytes: int = 0
    """The length of key and value together before they were cut. 0 for a letter that has them whole."""

    @property
    def is_cut(self) -> bool:
        """Whether the letter has only the beginning of its record's key and value."""
        return self.whole_bytes > 0

    @property
    def job(self) -> IngestJob | None:
        try:
            return decode_job(self.value)
        except IngestError:
            return None

    def without_stacktrace(self) -> DeadLetter:
        """This letter, with headers that take some hundred bytes in place of up to 16,000."""
        failure = replace(self.failure, message=self.failure.message[:_SHORT_MESSAGE_CHARS])
        return replace(self, stacktrace="", failure=failure)

    def cut(self) -> DeadLetter:
        """This letter in about two kilobytes, for a topic that does not take it whole.

        It loses its stack trace, the record's headers, and all but the beginning of a long key or value. `origin` says
        where the record is.
        """
        key, value = self.key or b"", self.value or b""
        is_long = max(len(key), len(value)) > _CUT_BYTES
        return replace(
            self.without_stacktrace(),
            key=self.key and key[:_CUT_BYTES],
            value=self.value and value[:_CUT_BYTES],
            headers=(),
            whole_bytes=len(key) + len(value) if is_long else 0,
        )


def letter_id(document: Document) -> str:
    """A document may fail more than once. Its fence has grown after a replay, or after a delete and a new upload."""
    return f"{document.id}-{document.first_page_key}-{document.fence}"


def of_document(document: Document, record: Record, group: str, error: BaseException | None) -> DeadLetter:
    """The dead letter of a failed document. `error` is the exception that it failed with, None where it is unknown."""
    assert document.error is not None
    return DeadLetter(
        id=letter_id(document),
        key=record.key,
        value=record.value,
        headers=record.headers,
        origin=record.origin,
        group=group,
        delivery_count=document.attempts,
        failure=document.error,
        exception_class=_class_name(error),
        stacktrace=_stacktrace(error),
        timestamp=datetime.now(UTC),
        document_id=document.id,
        fence=document.fence,
    )


def of_record(record: Record, group: str, error: IngestError, *, delivery_count: int = 1) -> DeadLetter:
    """The dead letter of a record that is no job, or whose document the ledger cannot read.

    A replay publishes the record again, in any state of the document.
    """
    origin = record.origin
    return DeadLetter(
        id=f"{origin.topic}-{origin.partition}-{origin.offset}",
        key=record.key,
        value=record.value,
        headers=record.headers,
        origin=origin,
        group=group,
        delivery_count=delivery_count,
        failure=Failure(error.code, error.stage or "decode", error.message),
        exception_class=_class_name(error),
        stacktrace=_stacktrace(error),
        timestamp=datetime.now(UTC),
    )


def of_recovered(document: Document, group: str) -> DeadLetter:
    """The dead letter of a failed document whose worker ended before it was published. The record is lost."""
    job = IngestJob.of(document)
    key, value, headers = encode_job(job)
    record = Record((_UNKNOWN, -1), -1, key, value, tuple(headers))
    return of_document(document, record, group, None)


def encode(letter: DeadLetter) -> tuple[bytes | None, bytes | None, Headers]:
    """The dead letter as (key, value, headers)."""
    report = {
        "letter.id": letter.id,
        "topic": letter.origin.topic,
        "partition": letter.origin.partition,
        "offset": letter.origin.offset,
        "group": letter.group,
        "delivery.count": letter.delivery_count,
        "message": letter.failure.message[:_MESSAGE_CHARS],
        "code": letter.failure.code,
        "stage": letter.failure.stage,
        "exception.class.name": letter.exception_class,
        "stacktrace": letter.stacktrace,
        "timestamp": letter.timestamp.isoformat(),
        "document.id": letter.document_id,
        "document.fence": letter.fence,
        "whole.bytes": letter.whole_bytes,
    }
    mine = {f"{_PREFIX}{name}" for name in report}
    kept = [header for header in letter.headers if header[0] not in mine]
    return (
        letter.key,
        letter.value,
        kept + [(f"{_PREFIX}{name}", str(text).encode("utf-8", "replace")) for name, text in report.items()],
    )


def decode(record: Record) -> DeadLetter:
    """Raises BadMessage where the record has no header of a dead letter.

    A header that another release left out, or wrote in another form, is empty or unknown in the result.
    """
    report = {
        name.removeprefix(_PREFIX): (text or b"").decode("utf-8", "replace")
        for name, text in record.headers
        if name.startswith(_PREFIX)
    }
    if not report:
        raise BadMessage(f"{record.partition} at {record.offset} is no dead letter", stage="decode")
    topic, partition = record.partition
    return DeadLetter(
        id=report.get("letter.id") or f"{topic}-{partition}-{record.offset}",
        key=record.key,
        value=record.value,
        headers=tuple(header for header in record.headers if not header[0].startswith(_PREFIX)),
        origin=Origin(report.get("topic", _UNKNOWN), _number(report.get("partition")), _number(report.get("offset"))),
        group=report.get("group", _UNKNOWN),
        delivery_count=_number(report.get("delivery.count")),
        failure=Failure(*(report.get(name, _UNKNOWN) for name in ("code", "stage", "message"))),
        exception_class=report.get("exception.class.name", ""),
        stacktrace=report.get("stacktrace", ""),
        timestamp=_moment(report.get("timestamp")),
        document_id=report.get("document.id", ""),
        fence=_number(report.get("document.fence")),
        whole_bytes=max(0, _number(report.get("whole.bytes"))),
    )


def _number(text: str | None) -> int:
    """-1 where `text` is no number."""
    try:
        return int(text or "")
    except ValueError:
        return -1


def _moment(text: str | None) -> datetime:
    """The earliest time where `text` is none. In UTC where it names no zone."""
    try:
        found = datetime.fromisoformat(text or "")
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _class_name(error: BaseException | None) -> str:
    if error is None:
        return ""
    module = type(error).__module__
    if module.startswith(f"{errors.__name__}."):  # the package exports its classes; its modules may change
        module = errors.__name__
    return f"{module}.{type(error).__qualname__}"


def _stacktrace(error: BaseException | None) -> str:
    """The end of the traceback, which names the cause."""
    return "" if error is None else "".join(traceback.format_exception(error))[-_STACKTRACE_CHARS:]
