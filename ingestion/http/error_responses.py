"""Error responses of the HTTP server itself: it sends them before, or in place of, the application's answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

RETRY_AFTER_S: Final = 2


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """`reason` is the metric label of this error."""

    status: int
    code: str
    detail: str
    reason: str

    @property
    def is_temporary(self) -> bool:
        return self.status == 503


ErrorBody = Callable[[ErrorResponse], tuple[str, bytes]]
"""Returns the media type and the body of an error response."""

HEAD_TOO_SLOW: Final = ErrorResponse(408, "request_timeout", "the request head did not arrive in time", "slow_head")
BODY_TOO_SLOW: Final = ErrorResponse(408, "request_timeout", "the request body arrived too slowly", "slow_body")
URI_TOO_LONG: Final = ErrorResponse(414, "uri_too_long", "the request URI is too long", "large_head")
HEAD_TOO_LARGE: Final = ErrorResponse(
    431, "request_header_fields_too_large", "the request has too many or too large header fields", "large_head"
)
FRAMING_TOO_LARGE: Final = ErrorResponse(
    400, "bad_request", "the chunked body has too small chunks, or too large extensions or trailers", "framing"
)
MALFORMED: Final = ErrorResponse(400, "bad_request", "the request is not valid HTTP/1.1", "malformed")
TOO_MANY_PIPELINED: Final = ErrorResponse(
    400, "bad_request", "too many pipelined requests: wait for an answer before sending more", "pipelined"
)
TOO_MANY_CONNECTIONS: Final = ErrorResponse(
    503, "too_many_connections", "too many connections are open; try again later", "too_many_connections"
)


def problem_body(error: ErrorResponse) -> tuple[str, bytes]:
    """An RFC 9457 problem document."""
    body = {
        "type": f"urn:pagemill:problem:{error.code}",
        "title": error.code.replace("_", " ").capitalize(),
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
    }
    return "application/problem+json", json.dumps(body).encode()


def encode(error: ErrorResponse, error_body: ErrorBody) -> bytes:
    """Head and body of an answer that closes the connection."""
    media_type, body = error_body(error)
    retry = f"retry-after: {RETRY_AFTER_S}\r\n" if error.is_temporary else ""
    head = f"content-type: {media_type}\r\ncontent-length: {len(body)}\r\n{retry}connection: close\r\n\r\n"
    return STATUS_LINE[error.status] + head.encode("latin-1") + body
