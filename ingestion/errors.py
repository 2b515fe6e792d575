"""The error tree. Adapters translate their library's exceptions into it; nothing else crosses a port.

Every error has a stable `code` (listed in the README), the pipeline `stage` where it arose, when known, and the
first cause in its message. `RetryableError` means that the same call may work later; `PermanentError` means that
it never will for this input.
"""

from __future__ import annotations


class IngestError(Exception):
    """Base of everything that Pagemill raises on purpose."""

    code = "internal"

    def __init__(self, message: str, *, stage: str | None = None) -> None:
        super().__init__(message)
        self.stage = stage

    @property
    def message(self) -> str:
        return str(self.args[0])


class RetryableError(IngestError):
    """The same call may succeed later; the document is not at fault."""

    code = "retryable"


class DependencyUnavailable(RetryableError):
    """A server that this process talks to does not answer. `dependency` names it."""

    code = "dependency_unavailable"

    def __init__(self, dependency: str, message: str, *, stage: str | None = None) -> None:
        super().__init__(f"{dependency} is unavailable: {message}", stage=stage)
        self.dependency = dependency


class LeaseHeld(RetryableError):
    """Another worker holds the document; `retry_in_s` is what is left of its lease."""

    code = "lease_held"

    def __init__(self, document_id: str, retry_in_s: float) -> None:
        super().__init__(f"document {document_id} is leased to another worker for {retry_in_s:.1f} s more")
        self.retry_in_s = retry_in_s


class LeaseLost(IngestError):
    """A write was refused because the fence has moved on: another worker or a delete owns the document now."""

    code = "lease_lost"


class EmbedderNotCurrent(RetryableError):
    """The collection is moving, or has moved, from one embedder to another, and this one may not fill it now."""

    code = "embedder_not_current"


class WorkerFault(RetryableError):
    """A step failed for a reason that is neither the file's nor a known server's."""

    code = "internal"


class Stalled(WorkerFault):
    """A stage of an attempt made no progress for longer than its limit: a device, a model or a server hangs."""

    code = "stalled"


class DeviceMemoryExhausted(RetryableError):
    """The device's memory does not hold even one page alone; later or elsewhere there may be more of it."""

    code = "device_memory_exhausted"


class PermanentError(IngestError):
    """No retry can help: the input itself is the cause."""

    code = "permanent"


class FileError(PermanentError):
    """The file itself is at fault, not whoever handles it."""

    code = "file"


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


class EmbedderMissing(IngestError):
    """The embedder that was asked for cannot run here: a library or a device is missing."""

    code = "embedder_missing"


class ModelNotFound(IngestError):
    """The weights that were asked for do not exist, or are not those of a model that can be used."""

    code = "model_not_found"


class NotEnoughMemory(IngestError):
    """The model does not fit the memory of its device."""

    code = "not_enough_memory"


class IndexUnsupported(RetryableError):
    """The Milvus server does not make the index that the settings ask for."""

    code = "index_unsupported"


class SourceMissing(PermanentError):
    """The uploaded bytes are no longer in the object store."""

    code = "source_missing"


class EmbedderMismatch(PermanentError):
    """Vectors of one embedder were offered to a collection that holds those of another."""

    code = "embedder_mismatch"


class BadRequest(PermanentError):
    """What a caller sent cannot be used as it is."""

    code = "bad_request"


class Unauthorized(PermanentError):
    """The caller did not show the API key."""

    code = "unauthorized"


class NotFound(PermanentError):
    """There is no such document, object or address."""

    code = "not_found"


class Conflict(PermanentError):
    """The document's state does not allow what was asked."""

    code = "conflict"


class CollectionArchived(Conflict):
    """The collection is archived, on the way there or back, or being dropped: it takes and finds nothing."""

    code = "collection_archived"


class CollectionBusy(Conflict):
    """The collection cannot be archived or dropped now: it is being filled, lacks vectors, or has just changed."""

    code = "collection_busy"


class CollectionHeld(RetryableError):
    """Another process archives, restores or drops the collection; `retry_in_s` is what is left of its hold."""

    code = "collection_held"

    def __init__(self, collection: str, retry_in_s: float) -> None:
        super().__init__(f"another process is at collection {collection!r}, for {retry_in_s:.1f} s more at least")
        self.retry_in_s = retry_in_s


class BadMessage(PermanentError):
    """A Kafka record that is not a message of ours."""

    code = "bad_message"
