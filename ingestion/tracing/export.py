"""Sends spans to an OTLP receiver over HTTP. Off unless an endpoint is set; then no SDK is imported.

A thread of its own sends batches. A receiver that is down, slow or silent costs spans, never time: the queue is
bounded and drops what it cannot hold, and the end of the process waits for a moment only.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

import structlog

from ingestion.settings import TracingSettings
from ingestion.tracing.spans import record_with

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

log = structlog.get_logger(__name__)

_STANDARD_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_SDK_DISABLED: Final = "OTEL_SDK_DISABLED"
_PATH: Final = "/v1/traces"

_QUEUED_SPANS: Final = 4096
_BATCH_SPANS: Final = 512
_SEND_EVERY_MS: Final = 2000
_LONGEST_TEXT: Final = 256
_MOST_ATTRIBUTES: Final = 32
_MOST_LINKS: Final = 8
_AT_THE_END_S: Final = 2.0
_LOG_EVERY_S: Final = 60.0


_QUEUE_FULL: Final = "Queue full"
"""How the SDK begins its warning. A test fails where it says so in other words."""


class LostSpansLog(logging.Handler):
    """Logs that spans are lost, and one cause, at most once in _LOG_EVERY_S.

    As a handler it takes the SDK's warning of a full queue, which no counter shows. Other warnings lose nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self._logged_s = -_LOG_EVERY_S

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if message.startswith(_QUEUE_FULL):
            self.warn(message)

    def warn(self, cause: str) -> None:
        if time.monotonic() - self._logged_s >= _LOG_EVERY_S:
            self._logged_s = time.monotonic()
            log.warning("traces lost", cause=cause)


def is_configured(settings: TracingSettings, environment: Mapping[str, str] = os.environ) -> bool:
    if environment.get(_SDK_DISABLED, "").lower() == "true":
        return False
    return bool(settings.otlp_endpoint) or any(environment.get(name) for name in _STANDARD_ENDPOINTS)


@contextmanager
def tracing(settings: TracingSettings, process: str) -> Iterator[None]:
    """Record the spans of this process during the block, where an endpoint is set. `process` names it in traces."""
    if not is_configured(settings):
        yield
        return
    try:
        provider = _exporting_provider(settings, process)
    except ImportError:
        log.error("no traces: install OpenTelemetry with `pip install 'pagemill[tracing]'`, or unset the endpoint")
        yield
        return
    from ingestion.tracing.recording import SpanRecorder

    record_with(SpanRecorder(provider.get_tracer("pagemill", version("pagemill"))))
    log.info("traces are sent", sample_ratio=settings.trace_sample_ratio)
    try:
        yield
    finally:
        record_with(None)
        _shut_down(provider)


def provider_of(settings: TracingSettings, process: str, processor: SpanProcessor) -> TracerProvider:
    """A tracer provider of its own, so that no library of this process adds spans to it."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanLimits, TracerProvider
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    attributes = {
        "service.version": version("pagemill"),
        "service.namespace": "pagemill",
        "service.instance.id": f"{socket.gethostname()}-{os.getpid()}",
    }
    if not os.environ.get("OTEL_SERVICE_NAME"):
        attributes["service.name"] = f"pagemill-{process}"
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(settings.trace_sample_ratio)),
        resource=Resource.create(attributes),
        shutdown_on_exit=False,
        span_limits=SpanLimits(
            max_attributes=_MOST_ATTRIBUTES, max_attribute_length=_LONGEST_TEXT, max_links=_MOST_LINKS
        ),
    )
    provider.add_span_processor(processor)
    return provider


def _exporting_provider(settings: TracingSettings, process: str) -> TracerProvider:
    """Raises ImportError where the extra `tracing` is not installed."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class LoggedExporter(SpanExporter):
        """Logs failures. The exporter itself logs every failure and every retry."""

        def __init__(self, inner: SpanExporter, lost: LostSpansLog) -> None:
            self._inner = inner
            self._lost = lost

        def export(self, spans: Any) -> SpanExportResult:
            result = self._inner.export(spans)
            if result is not SpanExportResult.SUCCESS:
                self._lost.warn(f"the OTLP receiver does not take {len(spans)} spans")
            return result

        def shutdown(self) -> None:
            self._inner.shutdown()

    lost = LostSpansLog()
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    of_the_queue = logging.getLogger("opentelemetry.sdk")
    of_the_queue.setLevel(logging.WARNING)
    of_the_queue.handlers, of_the_queue.propagate = [lost], False
    exporter = OTLPSpanExporter(endpoint=_endpoint(settings.otlp_endpoint), timeout=settings.otlp_timeout_s)
    processor = BatchSpanProcessor(
        LoggedExporter(exporter, lost),
        max_queue_size=_QUEUED_SPANS,
        schedule_delay_millis=_SEND_EVERY_MS,
        max_export_batch_size=_BATCH_SPANS,
    )
    return provider_of(settings, process, processor)


def _endpoint(base: str) -> str | None:
    """None: the exporter reads the standard variables."""
    if not base:
        return None
    return base if base.endswith(_PATH) else base.rstrip("/") + _PATH


def _shut_down(provider: TracerProvider) -> None:
    """Send what is queued, for _AT_THE_END_S at most. A daemon thread does it, so it cannot keep the process."""
    thread = threading.Thread(target=provider.shutdown, name="end of traces", daemon=True)
    thread.start()
    thread.join(_AT_THE_END_S)
