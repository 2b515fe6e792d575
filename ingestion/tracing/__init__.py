"""Request ids and traces: what connects the log lines and the work of one request in all processes.

A request id is always there. It comes from the header `X-Request-ID`, or is made by the API, and goes with the job to
the worker and with each HTTP request to the embedding service.

Spans are recorded within the block `ingestion.tracing.export.tracing`. Elsewhere `span` and the other functions return
an object without effect, and no OpenTelemetry SDK is imported. Spans have bounded attributes: ids, names, numbers and
error codes, never texts, file names, addresses or keys.
"""

from ingestion.tracing.http import inject, serving
from ingestion.tracing.messaging import HEADER_REQUEST_ID, HEADER_TRACEPARENT, Message, processing, publishing
from ingestion.tracing.request_ids import current_request_id, is_request_id, new_request_id, use_request_id
from ingestion.tracing.spans import NO_ORIGIN, Attribute, Origin, Span, current_origin, log_fields, span

__all__ = [
    "HEADER_REQUEST_ID",
    "HEADER_TRACEPARENT",
    "NO_ORIGIN",
    "Attribute",
    "Message",
    "Origin",
    "Span",
    "current_origin",
    "current_request_id",
    "inject",
    "is_request_id",
    "log_fields",
    "new_request_id",
    "processing",
    "publishing",
    "serving",
    "span",
    "use_request_id",
]
