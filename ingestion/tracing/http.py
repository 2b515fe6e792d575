"""Spans of HTTP requests, and the headers that carry their context."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, Final

from ingestion.tracing import spans
from ingestion.tracing.request_ids import current_request_id, is_request_id, new_request_id, use_request_id
from ingestion.tracing.spans import Span

REQUEST_ID_HEADER: Final = "X-Request-ID"
TRACEPARENT_HEADER: Final = "traceparent"
REQUEST_ID_FIELD: Final = REQUEST_ID_HEADER.lower().encode()
_TRACEPARENT_FIELD: Final = TRACEPARENT_HEADER.encode()
_FIRST_SERVER_ERROR: Final = 500


@contextmanager
def serving(scope: Any, *, is_recorded: bool = True) -> Iterator[Span]:
    """The block answers the request of an ASGI scope, in a task of its own. Sets the task's request id.

    The id and the trace are those that the caller names in its headers, or new ones.
    """
    request_id = traceparent = ""
    for name, value in scope.get("headers", ()):
        if name == REQUEST_ID_FIELD:
            request_id = value.decode("latin-1")
        elif name == _TRACEPARENT_FIELD:
            traceparent = value.decode("latin-1")
    use_request_id(request_id if request_id and is_request_id(request_id) else new_request_id())
    if not is_recorded or not spans.is_recording():
        yield spans.NO_SPAN
        return
    method = scope["method"]
    attributes = {"http.request.method": method, "pagemill.request.id": current_request_id()}
    with spans.span(method, "server", attributes, parent=traceparent) as span:
        yield span


def end_request(span: Span, scope: Any, status: int) -> None:
    """Name the span after the route, which is known once the application has answered."""
    if route := _route_of(scope):
        span.rename(f"{scope['method']} {route}")
        span.set({"http.route": route})
    span.set({"http.response.status_code": status})
    if status >= _FIRST_SERVER_ERROR:
        span.fail(str(status))


def _route_of(scope: Any) -> str:
    """The template of the path, with the prefixes of routers, which the route itself does not know."""
    template = getattr(scope.get("route"), "path", "")
    if not template:
        return ""
    segments, own = scope["path"].split("/")[1:], template.split("/")[1:]
    return "/" + "/".join([*segments[: len(segments) - len(own)], *own])


def inject(headers: MutableMapping[str, str]) -> None:
    """Add the request id and the current span to the headers of an HTTP request that this task sends."""
    if request_id := current_request_id():
        headers[REQUEST_ID_HEADER] = request_id
    if traceparent := spans.current_traceparent():
        headers[TRACEPARENT_HEADER] = traceparent
