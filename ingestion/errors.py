"""The error tree. Adapters translate their library's exceptions into it; nothing else crosses a port.

Every error has a stable `code` (listed in docs/error-codes.md), the pipeline `stage` where it arose, when known, and
the first cause in its message. `RetryableError` means that the same call may work later; `PermanentError` means that
it never will for this input.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar


class Fault(StrEnum):
    """Where the cause of an error lies. Each class of errors says it, or is of a branch that does."""

    FILE = "file"
    """In the bytes of one file."""
    CALLER = "caller"
    """In what a caller asked for."""
    RECORD = "record"
    """In one record of MongoDB, Kafka or the object store, that this release cannot read."""
    COLLECTION = "collection"
    """In one collection, with which this worker does not go together."""
    SERVER = "server"
    """In a server that this process talks to."""
    TURN = "turn"
    """Nowhere: another process is at the same thing at this moment."""
    WORKER = "worker"
    """In this process, its configuration, its machine or its release, as far as is known."""


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
    """Whether it is worth a try within the same attempt."""


class DependencyUnavailable(RetryableError):
    """A server that this process talks to does not answer. `dependency` names it."""

    code = "dependency_unavailable"
    fault = Fault.SERVER

    def __init__(self, dependency: str, message: str, *, stage: str | None = None) -> None:
        super().__init__(f"{dependency} is unavailable: {message}", stage=stage)
        self.dependency = dependency


class Overloaded(RetryableError):
    """More is being worked on than is let in at a time; the same call may be made again when it says."""

    code = "overloaded"
    fault = Fault.TURN

    def __init__(self, what: str, retry_after_s: int, *, stage: str | None = None) -> None:
        super().__init__(f"{what} is busy; try again in {retry_after_s} s", stage=stage)
        self.retry_after_s = retry_after_s


class LeaseHeld(RetryableError):
    """Another worker holds the document; `retry_in_s` is what is left of its lease."""

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
    """The collection is moving, or has moved, from one embedder to another, and this one may not fill it now."""

    code = "embedder_not_current"
    fault = Fault.TURN


class WorkerFault(RetryableError):
    """A step failed for a reason that is neither the file's nor a known server's."""

    code = "internal"
    fault = Fault.WORKER


class ChildStalled(RetryableError):
    """A process that reads PDFs ran out of time before its CPU time: the machine has too much to do, or hangs."""

    code = "child_stalled"
    fault = Fault.WORKER


class Stalled(WorkerFault):
    """A stage of an attempt made no progress for longer than its limit: a device, a model or a server hangs."""

    code = "stalled"
    may_work_soon = False


class EmbeddingFailed(RetryableError):
    """The embedding service fails at this page, or does not answer, and meanwhile embeds other input."""

    code = "embedding_failed"
    may_work_soon = False
    fault = Fault.FILE


class FailsAlone(RetryableError):
    """A server fails at this document again and again, and works for others in between."""

    code = "fails_alone"
    fault = Fault.FILE


class DeviceMemoryExhausted(RetryableError):
    """The device's memory does not hold even one page alone; later or elsewhere there may be more of it."""

    code = "device_memory_exhausted"
    fault = Fault.WORKER


class PermanentError(IngestError):
    """No retry can help: the input itself is the cause."""

    code = "permanent"


class FileError(PermanentError):
    """The file itself is at fault, not whoever handles it."""

    code = "file"
    fault = Fault.FILE


class NotAPdf(FileError):
    """The file has no PDF header where one has to be."""

    code = "not_a_pdf"


class EmptyFile(FileError):
    """The file has no bytes."""

    code = "empty_file"


class CorruptPdf(FileError):
    """The file is damaged: no reader opens it, it crashes or holds up its reader, or readers disagree on its pages."""

    code = "corrupt_pdf"


class EncryptedPdf(FileError):
    """The PDF opens only with a password, or is encrypted in a way that cannot be read."""

    code = "encrypted_pdf"


class NoPages(FileError):
    """The PDF opens, and has no pages."""

    code = "no_pages"


class FileTooLarge(FileError):
    """The file is larger than is accepted."""

    code = "file_too_large"


class TooManyPages(FileError):
    """The PDF has more pages than are accepted."""

    code = "too_many_pages"


class TooManyFiles(PermanentError):
    """More files in one upload than are accepted together."""

    code = "too_many_files"
    fault = Fault.CALLER


class FormTooLarge(PermanentError):
    """The form of an upload has more parts, or more bytes that belong to no accepted file, than are read."""

    code = "form_too_large"
    fault = Fault.CALLER


class PageRenderFailed(FileError):
    """A page that no renderer can draw."""

    code = "page_render_failed"


class RenderTimeout(FileError):
    """A page that takes longer than the render time limit in every renderer."""

    code = "render_timeout"


class AttemptsExhausted(FileError):
    """Every attempt so far ended without a verdict, most likely with the death of its worker."""

    code = "attempts_exhausted"


class RendererMissing(IngestError):
    """The renderer that was asked for is not installed here."""

    code = "renderer_missing"
    fault = Fault.WORKER


class EmbedderMissing(IngestError):
    """The embedder that was asked for cannot run here: a library or a device is missing."""

    code = "embedder_missing"
    fault = Fault.WORKER


class ModelNotFound(IngestError):
    """The weights that were asked for do not exist, or are not those of a model that can be used."""

    code = "model_not_found"
    fault = Fault.WORKER


class NotEnoughMemory(IngestError):
    """The model does not fit the memory of its device."""

    code = "not_enough_memory"
    fault = Fault.WORKER


class IndexUnsupported(RetryableError):
    """The Milvus server does not make the index that the settings ask for."""

    code = "index_unsupported"
    fault = Fault.WORKER


class SourceMissing(PermanentError):
    """The uploaded bytes are no longer in the object store."""

    code = "source_missing"
    fault = Fault.WORKER


class EmbedderMismatch(PermanentError):
    """Vectors of one embedder were offered to a collection that holds those of another."""

    code = "embedder_mismatch"
    fault = Fault.COLLECTION


class BadRequest(PermanentError):
    """What a caller sent cannot be used as it is."""

    code = "bad_request"
    fault = Fault.CALLER


class Unauthorized(PermanentError):
    """The caller did not show the API key."""

    code = "unauthorized"
    fault = Fault.CALLER


class NotFound(PermanentError):
    """There is no such document, object or address."""

    code = "not_found"
    fault = Fault.CALLER


class Conflict(PermanentError):
    """The document's state does not allow what was asked."""

    code = "conflict"
    fault = Fault.CALLER


class CollectionArchived(Conflict):
    """The collection is archived, on the way there or back, or being dropped: it takes and finds nothing."""

    code = "collection_archived"


class CollectionBusy(Conflict):
    """The collection cannot be archived or dropped now: it is being filled, lacks vectors, or has just changed."""

    code = "collection_busy"


class CollectionHeld(RetryableError):
    """Another process archives, restores or drops the collection; `retry_in_s` is what is left of its hold."""

    code = "collection_held"
    fault = Fault.TURN

    def __init__(self, collection: str, retry_in_s: float) -> None:
        super().__init__(f"another process is at collection {collection!r}, for {retry_in_s:.1f} s more at least")
        self.retry_in_s = retry_in_s


class NewerRecord(RetryableError):
    """A record in a state or format that this release does not know: a newer one wrote it, and can go on with it."""

    code = "newer_record"
    fault = Fault.RECORD


class BadRecord(PermanentError):
    """A record of a store lacks a field that it has to have, or holds it in another type."""

    code = "bad_record"
    fault = Fault.RECORD


class BadMessage(PermanentError):
    """A Kafka record that is not a message of ours."""

    code = "bad_message"
    fault = Fault.RECORD


def not_text(error: UnicodeEncodeError) -> str:
    """What is wrong with a text that cannot be encoded."""
    at = error.start
    return f"U+{ord(error.object[at]):04X} at position {at} is half of a surrogate pair, or a byte that was not UTF-8"


def as_ingest_error(error: Exception) -> IngestError:
    """`error` itself, or a WorkerFault that names it and has it as its cause, where it is no IngestError."""
    if isinstance(error, IngestError):
        return error
    fault = WorkerFault(f"{type(error).__name__}: {error}")
    fault.__cause__ = error
    return fault
