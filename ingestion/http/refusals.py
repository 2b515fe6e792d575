"""Answers that the server gives by itself, before the application sees a request, or in its place."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

RETRY_AFTER_S: Final = 2


@dataclass(frozen=True, slots=True)
class HttpRefusal:
    """`reason` is the label under which it is counted."""

    status: int
    code: str
    detail: str
    reason: str

    @property
    def is_for_now(self) -> bool:
        return self.status == 503


Describe = Callable[[HttpRefusal], tuple[str, bytes]]
"""The media type and the body of a refusal."""

HEAD_TOO_SLOW: Final = HttpRefusal(408, "request_timeout", "the request head did not come in time", "slow_head")
BODY_TOO_SLOW: Final = HttpRefusal(408, "request_timeout", "the request body made too little progress", "slow_body")
URI_TOO_LONG: Final = HttpRefusal(414, "uri_too_long", "the request's address is too long", "large_head")
HEAD_TOO_LARGE: Final = HttpRefusal(
    431, "request_header_fields_too_large", "the request's header fields are too many or too large", "large_head"
)
FRAMING_TOO_LARGE: Final = HttpRefusal(
    400, "bad_request", "the chunked body has too little data in its chunks, or too large trailers", "framing"
)
MALFORMED: Final = HttpRefusal(400, "bad_request", "the request is not valid HTTP/1.1", "malformed")
TOO_MANY_PIPELINED: Final = HttpRefusal(400, "bad_request", "too many requests before the first answer", "pipelined")
NO_PLACE: Final = HttpRefusal(
    503, "too_many_connections", "too many connections are open; try again later", "too_many_connections"
)


def problem_body(refusal: HttpRefusal) -> tuple[str, bytes]:
    """An RFC 9457 problem document."""
    body = {
        "type": f"urn:pagemill:problem:{refusal.code}",
        "title": refusal.code.replace("_", " ").capitalize(),
        "status": refusal.status,
        "detail": refusal.detail,
        "code": refusal.code,
    }
    return "application/problem+json", json.dumps(body).encode()


def encode(refusal: HttpRefusal, describe: Describe) -> bytes:
    """The whole answer, which is the connection's last."""
    media_type, body = describe(refusal)
    retry = f"retry-after: {RETRY_AFTER_S}\r\n" if refusal.is_for_now else ""
    head = f"content-type: {media_type}\r\ncontent-length: {len(body)}\r\n{retry}connection: close\r\n\r\n"
    return STATUS_LINE[refusal.status] + head.encode("latin-1") + body
