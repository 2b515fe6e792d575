"""Errors of servers, leases and workers."""

from __future__ import annotations

from ingestion.errors.base import Fault, IngestError, PermanentError, RetryableError


class DependencyUnavailable(RetryableError):
    """A server that this process talks to does not answer. `dependency` names it."""

    code = "dependency_unavailable"
    fault = Fault.SERVER

    def __init__(self, dependency: str, message: str, *, stage: str | None = None) -> None:
        super().__init__(f"{dependency} is unavailable: {message}", stage=stage)
        self.dependency = dependency


class DependencyRefused(DependencyUnavailable):
    """A server refuses this process: a login, a certificate or a right is wrong. The message names the setting.

    A process ends if this is raised at its start. Later it waits, as for a server that is down.
    """

    code = "dependency_refused"
    may_work_soon = False

    def __init__(self, dependency: str, message: str, *, stage: str | None = None) -> None:
        IngestError.__init__(self, f"{dependency} refuses this process: {message}", stage=stage)
        self.dependency = dependency


class InvalidSetting(IngestError):
    """A setting cannot be used. The message names it."""

    code = "invalid_setting"
    fault = Fault.WORKER


class MessageTooLarge(RetryableError):
    """The Kafka topic does not take a message of this size. A higher `max.message.bytes` of the topic would help."""

    code = "message_too_large"
    fault = Fault.RECORD
    may_work_soon = False

    def __init__(self, topic: str, size_bytes: int) -> None:
        super().__init__(
            f"topic {topic} refuses a message of {size_bytes} bytes and its headers: raise its max.message.bytes"
        )


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


class WorkerFault(RetryableError):
    """A step failed, and the cause is neither the file nor a known server."""

    code = "internal"
    fault = Fault.WORKER


class ChildStalled(RetryableError):
    """A process that reads a file reached its time limit before its CPU limit: the machine is overloaded, or hangs."""

    code = "child_stalled"
    fault = Fault.WORKER


class Stalled(WorkerFault):
    """A stage of an attempt made no progress for longer than its limit: a device, a model or a server hangs."""

    code = "stalled"
    may_work_soon = False


class DeviceMemoryExhausted(RetryableError):
    """The device's memory does not hold one page alone. Later, or on another device, there may be more memory."""

    code = "device_memory_exhausted"
    fault = Fault.WORKER


class RendererMissing(IngestError):
    """The chosen renderer is not installed."""

    code = "renderer_missing"
    fault = Fault.WORKER


class ConverterUnavailable(RetryableError):
    """The Gotenberg server does not answer, or fails itself. Other documents do not wait for it."""

    code = "converter_unavailable"
    fault = Fault.SERVER


class OcrMissing(IngestError):
    """Reading page images is switched on, and its library is not installed."""

    code = "ocr_missing"
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
    """The Milvus server does not make the index of `PAGEMILL_INDEX_TYPE` and `PAGEMILL_INDEX_MMAP`."""

    code = "index_unsupported"
    fault = Fault.WORKER


class SourceMissing(PermanentError):
    """The uploaded bytes are no longer in the object store."""

    code = "source_missing"
    fault = Fault.WORKER


def as_ingest_error(error: Exception) -> IngestError:
    """`error` itself, or a WorkerFault that names it and has it as its cause, where it is no IngestError."""
    if isinstance(error, IngestError):
        return error
    fault = WorkerFault(f"{type(error).__name__}: {error}")
    fault.__cause__ = error
    return fault
