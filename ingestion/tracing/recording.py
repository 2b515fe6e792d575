"""Records spans with the API of OpenTelemetry. Imported only where traces are recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import Token
from types import TracebackType
from typing import Final

from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import (
    Link,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace import Span as OtelSpan
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ingestion.tracing.spans import Attribute, Kind

_HEADER: Final = "traceparent"
_EMPTY: Final = Context()
_KINDS: Final = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
}
_propagator: Final = TraceContextTextMapPropagator()


class SpanRecorder:
    """Implements `spans.Recorder` with a tracer."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def span(
        self,
        name: str,
        kind: Kind,
        *,
        parent: str | None,
        links: Sequence[str],
        attributes: Mapping[str, Attribute] | None,
        start_ns: int | None,
    ) -> RecordedSpan:
        context = None if parent is None else _context_of(parent)
        span = self._tracer.start_span(
            name,
            context,
            _KINDS[kind],
            attributes,
            [Link(found) for link in links if (found := _span_context_of(link)).is_valid],
            start_time=start_ns,
            record_exception=False,
            set_status_on_exception=False,
        )
        return RecordedSpan(span, context)

    def current(self) -> str:
        return _traceparent_of(get_current_span().get_span_context())

    def log_fields(self) -> dict[str, str]:
        context = get_current_span().get_span_context()
        if not context.is_valid:
            return {}
        return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}


class RecordedSpan:
    """Implements `spans.Span` and its context manager."""

    __slots__ = ("_context", "_has_failed", "_span", "_token", "traceparent")

    def __init__(self, span: OtelSpan, context: Context | None) -> None:
        self._span = span
        self._context = context
        self._has_failed = False
        self._token: Token[Context] | None = None
        self.traceparent = _traceparent_of(span.get_span_context())

    def __enter__(self) -> RecordedSpan:
        self._token = attach(set_span_in_context(self._span, self._context))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not self._has_failed:
            self.fail(str(getattr(error, "code", "") or type(error).__name__))
        if self._token is not None:
            detach(self._token)
        self._span.end()

    def set(self, attributes: Mapping[str, Attribute]) -> None:
        self._span.set_attributes(attributes)

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def fail(self, error_type: str) -> None:
        """The error's message is left out: it may quote a document."""
        self._has_failed = True
        self._span.set_attribute("error.type", error_type)
        self._span.set_status(Status(StatusCode.ERROR))


def _context_of(traceparent: str) -> Context:
    return _propagator.extract({_HEADER: traceparent}, _EMPTY) if traceparent else _EMPTY


def _span_context_of(traceparent: str) -> SpanContext:
    return get_current_span(_context_of(traceparent)).get_span_context()


def _traceparent_of(context: SpanContext) -> str:
    """Also for a span that is not sampled: what follows from it is not sampled either."""
    if not context.is_valid:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
