"""Recorded spans: in the memory of this process, and at an OTLP receiver over HTTP."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as ProtoSpan
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from ingestion.settings import TracingSettings
from ingestion.tracing.export import provider_of
from ingestion.tracing.recording import SpanRecorder
from ingestion.tracing.spans import record_with


class Recorded:
    """The spans that have ended in this process."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    @property
    def all(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()

    @property
    def names(self) -> list[str]:
        return [span.name for span in self.all]

    def named(self, name: str) -> list[ReadableSpan]:
        """In the order in which they began."""
        return sorted((span for span in self.all if span.name == name), key=lambda span: span.start_time or 0)

    def one(self, name: str) -> ReadableSpan:
        [span] = self.named(name)
        return span

    def parent_of(self, span: ReadableSpan) -> ReadableSpan:
        assert span.parent is not None
        wanted = span.parent.span_id
        return next(one for one in self.all if one.context.span_id == wanted)


@contextmanager
def recorded_spans(ratio: float = 1.0) -> Iterator[Recorded]:
    exporter = InMemorySpanExporter()
    settings = TracingSettings(trace_sample_ratio=ratio)
    provider = provider_of(settings, "test", SimpleSpanProcessor(exporter))
    record_with(SpanRecorder(provider.get_tracer("test")))
    try:
        yield Recorded(exporter)
    finally:
        record_with(None)
        provider.shutdown()


class OtlpReceiver:
    """Takes spans as an OpenTelemetry collector does: protobuf over HTTP at /v1/traces."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, ProtoSpan]] = []
        """(service.name, span)."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.take(gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> OtlpReceiver:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        for resource in request.resource_spans:
            service = next(one.value.string_value for one in resource.resource.attributes if one.key == "service.name")
            self.spans += [(service, span) for scope in resource.scope_spans for span in scope.spans]

    def named(self, name: str) -> list[ProtoSpan]:
        return [span for _, span in self.spans if span.name == name]

    def of_trace(self, trace_id: str) -> list[tuple[str, ProtoSpan]]:
        return [(service, span) for service, span in self.spans if span.trace_id.hex() == trace_id]
