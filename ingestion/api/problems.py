"""Errors as RFC 9457 problem documents with a stable `code`."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from ingestion.errors import (
    BadRecord,
    BadRequest,
    ChildStalled,
    CollectionHeld,
    Conflict,
    DependencyUnavailable,
    FileTooLarge,
    Forbidden,
    FormTooLarge,
    IngestError,
    NewerRecord,
    NotFound,
    Overloaded,
    PermanentError,
    QuotaExceeded,
    StorageQuotaExceeded,
    TooManyRequests,
    Unauthorized,
)

log = structlog.get_logger(__name__)

RETRY_AFTER_S: Final = 5

_STATUS: Final[list[tuple[type[IngestError], int]]] = [
    (Unauthorized, 401),
    (Forbidden, 403),
    (NotFound, 404),
    (Conflict, 409),
    (CollectionHeld, 409),
    (NewerRecord, 409),
    (BadRecord, 500),
    (BadRequest, 400),
    (FileTooLarge, 413),
    (FormTooLarge, 413),
    (StorageQuotaExceeded, 413),
    (QuotaExceeded, 429),
    (PermanentError, 422),
    (Overloaded, 429),
    (TooManyRequests, 429),
    (DependencyUnavailable, 503),
    (ChildStalled, 503),
]


def status_of(error: IngestError) -> int:
    """The HTTP status of an error; 500 for an error that the request did not cause."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def problem(
    status: int, code: str, detail: str, *, headers: Mapping[str, str] | None = None, **members: Any
) -> JSONResponse:
    """A problem document with extra `members`.

    `detail` may quote the request. Characters that are not valid Unicode are escaped.
    """
    body = {
        "type": f"urn:pagemill:problem:{code}",
        "title": code.replace("_", " ").capitalize().replace("pdf", "PDF"),
        "status": status,
        "detail": detail.encode(errors="backslashreplace").decode(),
        "code": code,
        **members,
    }
    return JSONResponse(body, status, headers, media_type="application/problem+json")


def problem_of(error: IngestError) -> JSONResponse:
    """The answer to a request that ended in `error`. The detail does not name the address of a server."""
    status = status_of(error)
    if isinstance(error, DependencyUnavailable):
        detail = f"{error.dependency} does not answer; try again later"
        return problem(status, error.code, detail, headers={"Retry-After": str(RETRY_AFTER_S)})
    if isinstance(error, Overloaded | TooManyRequests | QuotaExceeded):
        return problem(status, error.code, error.message, headers={"Retry-After": str(error.retry_after_s)})
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    if status == 503:
        headers = {"Retry-After": str(RETRY_AFTER_S)}
    return problem(status, error.code, error.message, headers=headers)


def install(app: FastAPI) -> None:
    """Answer every error of `app` with a problem document."""
    for kind, handler in (
        (IngestError, _on_ingest_error),
        (RequestValidationError, _on_invalid_request),
        (HTTPException, _on_http_exception),
        (ClientDisconnect, _on_disconnect),
        (Exception, _on_unhandled),
    ):
        app.add_exception_handler(kind, handler)


async def _on_ingest_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, IngestError)
    if status_of(error) == 500 and not isinstance(error, BadRecord):
        return await _on_unhandled(request, error)
    if isinstance(error, DependencyUnavailable):
        log.warning("dependency unavailable", dependency=error.dependency, path=request.url.path, cause=str(error))
    return problem_of(error)


async def _on_invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = [f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors()]
    return problem(422, BadRequest.code, "; ".join(found))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """Errors of the router: an unknown address, a wrong method."""
    assert isinstance(error, HTTPException)
    code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
    return problem(
        error.status_code, code, f"{request.method} {request.url.path}: {error.detail}", headers=error.headers
    )


async def _on_disconnect(request: Request, error: Exception) -> Response:
    log.debug("client disconnected", path=request.url.path)
    return problem(400, BadRequest.code, "the client disconnected before the request was complete")


async def _on_unhandled(request: Request, error: Exception) -> Response:
    log.error("unhandled error", method=request.method, path=request.url.path, exc_info=error)
    return problem(500, IngestError.code, "an internal error, not caused by the request; see the server's log")
