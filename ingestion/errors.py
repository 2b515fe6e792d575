"""The error tree. Adapters translate their library's exceptions into it; nothing else crosses a port.

Every error has a stable `code` (listed in docs/error-codes.md), the pipeline `stage` where it arose, when known, and
the first cause in its message. `RetryableError` means that the same call may work later; `PermanentError` means that
it never will for this input.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar


class Fault(StrEnum):
    """Where the cause of an error lies. Each error class sets it, or inherits it."""

    FILE = "file"
    """In the bytes of one file."""
    CALLER = "caller"
    """In what a caller asked for."""
    RECORD = "record"
    """In one record of MongoDB, Kafka or the object store, that this release cannot read."""
    COLLECTION = "collection"
    """In one collection, which this worker cannot fill."""
    SERVER = "server"
    """In a server that this process talks to."""
    TURN = "turn"
    """Nowhere: another process works on the same thing at this moment."""
    WORKER = "worker"
    """In this process, its configuration, its machine or its release, as far as Pagemill knows."""


class IngestError(Exception):
    """Base of everything that Pagemill raises on purpose."""

    code = "internal"
    fault: ClassVar[Fault | None] = None
    """None in the three classes that are only bases."""

    def __init__(self, message: str, *, stage: str | None = None) -> None:
        super().__init__(message)
        self.stage = stage

    @property
    def message(self) -> str:
        return str(self.args[0])


class RetryableError(IngestError):
    """The same call may succeed later; the document is not at fault."""

    code = "retryable"
    may_work_soon: ClassVar[bool] = True
    """Whether a repetition within the same attempt may help."""


class DependencyUnavailable(RetryableError):
    """A server that this process talks to does not answer. `dependency` names it."""

    code = "dependency_unavailable"
    fault = Fault.SERVER

    def __init__(self, dependency: str, message: str, *, stage: str | None = None) -> None:
        super().__init__(f"{dependency} is unavailable: {message}", stage=stage)
        self.dependency = dependency


class Overloaded(RetryableError):
    """Too much work is in flight. Repeat the same call after the time that the answer names."""

    code = "overloaded"
    fault = Fault.TURN

    def __init__(self, what: str, retry_after_s: int, *, stage: str | None = None) -> None:
        super().__init__(f"{what} is busy; try again in {retry_after_s} s", stage=stage)
        self.retry_after_s = retry_after_s


class LeaseHeld(RetryableError):
    """Another worker holds the document; `retry_in_s` is the rest of its lease."""

    code = "lease_held"
    fault = Fault.TURN

    def __init__(self, document_id: str, retry_in_s: float) -> None:
        super().__init__(f"document {document_id} is leased to another worker for {retry_in_s:.1f} s more")
        self.retry_in_s = retry_in_s


class LeaseLost(IngestError):
    """A write was refused because the fence has moved on: another worker or a delete owns the document now."""

    code = "lease_lost"
    fault = Fault.TURN


class EmbedderNotCurrent(RetryableError):
    """The collection changes, or has changed, its embedder, and this embedder may not fill it now."""

    code = "embedder_not_current"
    fault = Fault.TURN


class WorkerFault(RetryableError):
    """A step failed, and the cause is neither the file nor a known server."""

    code = "internal"
    fault = Fault.WORKER


class ChildStalled(RetryableError):
    """A process that reads PDFs reached its time limit before its CPU limit: the machine is overloaded, or hangs."""

    code = "child_stalled"
    fault = Fault.WORKER


class Stalled(WorkerFault):
    """A stage of an attempt made no progress for longer than its limit: a device, a model or a server hangs."""

    code = "stalled"
    may_work_soon = False


class EmbeddingFailed(RetryableError):
    """The embedding service fails at this page, or does not answer for it, while it embeds other input."""

    code = "embedding_failed"
    may_work_soon = False
    fault = Fault.FILE


class FailsAlone(RetryableError):
    """A server fails at this document again and again, and works for other documents in between."""

    code = "fails_alone"
    fault = Fault.FILE


class DeviceMemoryExhausted(RetryableError):
    """The device's memory does not hold one page alone. Later, or on another device, there may be more memory."""

    code = "device_memory_exhausted"
    fault = Fault.WORKER


class PermanentError(IngestError):
    """No retry can help: the input itself is the cause."""

    code = "permanent"


class FileError(PermanentError):
    """The file itself is the cause."""

    code = "file"
    fault = Fault.FILE


class NotAPdf(FileError):
    """The file has no PDF header in its first 1,024 bytes."""

    code = "not_a_pdf"


class EmptyFile(FileError):
    """The file has no bytes."""

    code = "empty_file"


class CorruptPdf(FileError):
    """The file is damaged: no reader opens it, it crashes or blocks a reader, or readers count different pages."""

    code = "corrupt_pdf"


class EncryptedPdf(FileError):
    """The PDF opens only with a password, or its encryption is not supported."""

    code = "encrypted_pdf"


class NoPages(FileError):
    """The PDF has no pages."""

    code = "no_pages"


class FileTooLarge(FileError):
    """The file is larger than `PAGEMILL_MAX_FILE_BYTES`."""

    code = "file_too_large"


class TooManyPages(FileError):
    """The PDF has more pages than `PAGEMILL_MAX_PAGES`."""

    code = "too_many_pages"


class TooManyFiles(PermanentError):
    """The upload has more files than `PAGEMILL_MAX_FILES_PER_UPLOAD`."""

    code = "too_many_files"
    fault = Fault.CALLER


class FormTooLarge(PermanentError):
    """The form of an upload has too many parts, or too many bytes that belong to no accepted file."""

    code = "form_too_large"
    fault = Fault.CALLER


class PageRenderFailed(FileError):
    """No renderer can draw a page of the file."""

    code = "page_render_failed"


class RenderTimeout(FileError):
    """A page of the file takes longer than `PAGEMILL_RENDER_TIMEOUT_S` in every renderer."""

    code = "render_timeout"


class AttemptsExhausted(FileError):
    """Every attempt ended without an outcome, most likely with the death of its worker."""

    code = "attempts_exhausted"


class RendererMissing(IngestError):
    """The chosen renderer is not installed."""

    code = "renderer_missing"
    fault = Fault.WORKER


class EmbedderMissing(IngestError):
    """The chosen embedder cannot run: a library or a device is missing."""

    code = "embedder_missing"
    fault = Fault.WORKER


class ModelNotFound(IngestError):
    """The weights do not exist, or are not those of a supported model."""

    code = "model_not_found"
    fault = Fault.WORKER


class NotEnoughMemory(IngestError):
    """The model does not fit the memory of its device."""

    code = "not_enough_memory"
    fault = Fault.WORKER


class IndexUnsupported(RetryableError):
    """The Milvus server does not have the index type of `PAGEMILL_INDEX_TYPE`."""

    code = "index_unsupported"
    fault = Fault.WORKER


class SourceMissing(PermanentError):
    """The uploaded bytes are no longer in the object store."""

    code = "source_missing"
    fault = Fault.WORKER


class EmbedderMismatch(PermanentError):
    """The collection holds vectors of another embedder."""

    code = "embedder_mismatch"
    fault = Fault.COLLECTION


class BadRequest(PermanentError):
    """The request is not valid."""

    code = "bad_request"
    fault = Fault.CALLER


class Unauthorized(PermanentError):
    """The request has no API key, or a wrong one."""

    code = "unauthorized"
    fault = Fault.CALLER


class NotFound(PermanentError):
    """The document, object or address does not exist."""

    code = "not_found"
    fault = Fault.CALLER


class Conflict(PermanentError):
    """The state of the document or collection does not allow the request."""

    code = "conflict"
    fault = Fault.CALLER


class CollectionArchived(Conflict):
    """The collection is archived, or is being archived, restored or dropped. It accepts no uploads and no searches."""

    code = "collection_archived"


class CollectionBusy(Conflict):
    """The collection cannot be archived or dropped now: it is being filled, lacks vectors, or has just changed."""

    code = "collection_busy"


class CollectionHeld(RetryableError):
    """Another process archives, restores or drops the collection; `retry_in_s` is the rest of its hold."""

    code = "collection_held"
    fault = Fault.TURN

    def __init__(self, collection: str, retry_in_s: float) -> None:
        super().__init__(f"another process is at collection {collection!r}, for {retry_in_s:.1f} s more at least")
        self.retry_in_s = retry_in_s


class NewerRecord(RetryableError):
    """A newer release wrote the record, in a state or format that this release does not know."""

    code = "newer_record"
    fault = Fault.RECORD


class BadRecord(PermanentError):
    """A record of a store lacks a required field, or has it in another type."""

    code = "bad_record"
    fault = Fault.RECORD


class BadMessage(PermanentError):
    """The Kafka record is not a message of Pagemill."""

    code = "bad_message"
    fault = Fault.RECORD


def not_text(error: UnicodeEncodeError) -> str:
    """Say why a text cannot be encoded."""
    at = error.start
    return f"U+{ord(error.object[at]):04X} at position {at} is half of a surrogate pair, or a byte that was not UTF-8"


def as_ingest_error(error: Exception) -> IngestError:
    """`error` itself, or a WorkerFault that names it and has it as its cause, where it is no IngestError."""
    if isinstance(error, IngestError):
        return error
    fault = WorkerFault(f"{type(error).__name__}: {error}")
    fault.__cause__ = error
    return fault
