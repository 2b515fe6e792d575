"""The spans of this process. Without a recorder all functions cost some 100 ns and have no effect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Literal, Protocol, TypeAlias

from ingestion.tracing.request_ids import current_request_id

Attribute: TypeAlias = str | int | float | bool
Kind: TypeAlias = Literal["internal", "server", "client", "producer", "consumer"]


@dataclass(frozen=True, slots=True)
class Origin:
    """The request that a document comes from. `traceparent` is empty where its trace is not recorded."""

    request_id: str = ""
    traceparent: str = ""


NO_ORIGIN: Final = Origin()


class Span(Protocol):
    """One span. Where nothing is recorded, all methods have no effect."""

    @property
    def traceparent(self) -> str:
        """The header `traceparent` (W3C Trace Context) that continues this span. Empty where nothing is recorded."""

    def set(self, attributes: Mapping[str, Attribute]) -> None:
        """Set attributes. A value of more than 256 characters is cut."""

    def rename(self, name: str) -> None: ...

    def fail(self, error_type: str) -> None:
        """Set the status to error, with the error's code as `error.type`."""


class Recorder(Protocol):
    """Records spans: `ingestion.tracing.recording.SpanRecorder`."""

    def span(
        self,
        name: str,
        kind: Kind,
        *,
        parent: str | None,
        links: Sequence[str],
        attributes: Mapping[str, Attribute] | None,
        start_ns: int | None,
    ) -> AbstractContextManager[Span]: ...

    def current(self) -> str: ...
    def log_fields(self) -> dict[str, str]: ...


class _NoSpan:
    """Implements Span and its context manager, without effect."""

    traceparent: Final = ""

    def __enter__(self) -> _NoSpan:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def set(self, attributes: Mapping[str, Attribute]) -> None: ...
    def rename(self, name: str) -> None: ...
    def fail(self, error_type: str) -> None: ...


NO_SPAN: Final = _NoSpan()
_recorder: Recorder | None = None


def record_with(recorder: Recorder | None) -> None:
    """Record the spans of this process with `recorder` from now on. None: record nothing."""
    global _recorder  # noqa: PLW0603 - one process has one recorder, as it has one log
    _recorder = recorder


def is_recording() -> bool:
    return _recorder is not None


def span(
    name: str,
    kind: Kind = "internal",
    attributes: Mapping[str, Attribute] | None = None,
    *,
    parent: str | None = None,
    links: Sequence[str] = (),
    start_ns: int | None = None,
) -> AbstractContextManager[Span]:
    """The block is a span below the task's current span, or below the traceparent `parent`; "" begins a trace.

    `links` are traceparents; invalid ones are left out. `start_ns` is the Unix time at which the span began, where it
    began before the block. An exception that leaves the block sets the status to error, with the exception's code or
    class as `error.type`. Begin and end the block in one task.
    """
    if _recorder is None:
        return NO_SPAN
    return _recorder.span(name, kind, parent=parent, links=links, attributes=attributes, start_ns=start_ns)


def current_traceparent() -> str:
    """The task's current span. Empty where nothing is recorded."""
    return "" if _recorder is None else _recorder.current()


def current_origin() -> Origin:
    return Origin(current_request_id(), current_traceparent())


def log_fields() -> dict[str, str]:
    """The ids for a log line of the current task: `request_id`, and `trace_id` and `span_id` where they are recorded.

    A field that is empty is left out.
    """
    request_id = current_request_id()
    fields = {"request_id": request_id} if request_id else {}
    return fields if _recorder is None else fields | _recorder.log_fields()
