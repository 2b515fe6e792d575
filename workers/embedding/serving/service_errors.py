"""Errors in the format of OpenAI's clients: `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import orjson
from starlette.responses import Response

from ingestion.errors import IngestError, PermanentError, RetryableError, WorkerFault
from ingestion.http.error_responses import ErrorResponse

JSON: Final = "application/json"
_LATER_S: Final = 5
"""Retry-After for a model or a server that does not work."""


class ServiceError(Exception):
    """An error answer. `param`: the field of the request at fault. `closes`: close the connection after the answer."""

    def __init__(
        self,
        message: str,
        *,
        code: str = "bad_request",
        param: str | None = None,
        status: int = 400,
        retry_after_s: int | None = None,
        closes: bool = False,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.param = param
        self.status = status
        self.retry_after_s = retry_after_s
        self.closes = closes

    def response(self) -> Response:
        error = {"message": str(self), "type": _type_of(self.status), "param": self.param, "code": self.code}
        headers = {"Retry-After": str(self.retry_after_s)} if self.retry_after_s else {}
        if self.closes:
            headers["Connection"] = "close"
        return Response(orjson.dumps({"error": error}), self.status, headers, JSON)


def error_body(response: ErrorResponse) -> tuple[str, bytes]:
    """Errors of the HTTP server itself, in the same format."""
    error = {"message": response.detail, "type": _type_of(response.status), "param": None, "code": response.code}
    return JSON, orjson.dumps({"error": error})


class LaneFull(ServiceError):
    """A lane has reached its limit."""

    def __init__(self, lane: str, retry_after_s: int) -> None:
        super().__init__(
            f"the {lane} lane is full; try again in {retry_after_s} s",
            code="overloaded",
            status=HTTPStatus.TOO_MANY_REQUESTS,
            retry_after_s=retry_after_s,
        )


class ModelLost(ServiceError):
    """The model does not work, or was closed."""

    def __init__(self, cause: str) -> None:
        super().__init__(
            f"the model is not available: {cause}",
            code="model_lost",
            status=HTTPStatus.SERVICE_UNAVAILABLE,
            retry_after_s=_LATER_S,
        )


def service_error_from(error: IngestError) -> ServiceError:
    """400 for an invalid input, 503 if the same call may work later, 500 for anything else."""
    if isinstance(error, PermanentError):
        return ServiceError(error.message, code=error.code)
    if isinstance(error, RetryableError) and not isinstance(error, WorkerFault):
        return ServiceError(
            error.message, code=error.code, status=HTTPStatus.SERVICE_UNAVAILABLE, retry_after_s=_LATER_S
        )
    return ServiceError(error.message, code=error.code, status=HTTPStatus.INTERNAL_SERVER_ERROR)


def _type_of(status: int) -> str:
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return "rate_limit_error"
    return "invalid_request_error" if status < 500 else "server_error"
