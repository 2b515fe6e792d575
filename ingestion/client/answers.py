"""Answers of the API: views of the good ones, and an error for each of the others."""

from __future__ import annotations

from typing import Final, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from ingestion.errors import DependencyUnavailable, Fault, PermanentError

_V = TypeVar("_V", bound=BaseModel)

RETRYABLE_STATUS: Final = frozenset({429, 502, 503, 504})
_MAX_RETRY_AFTER_S: Final = 30.0


class ApiError(PermanentError):
    """The API answered with a problem document; `code` is its code."""

    fault = Fault.CALLER

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class ApiUnavailable(DependencyUnavailable):
    """The API does not answer, or is temporarily unable to. `retry_after_s` is its Retry-After."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__("the API", message)
        self.retry_after_s = retry_after_s


def parse(view: type[_V], content: bytes | str) -> _V:
    """The answer as a view. Raises ApiUnavailable where it is something else: another server may have answered."""
    try:
        return view.model_validate_json(content)
    except ValidationError as error:
        raise ApiUnavailable(f"the answer is not one of Pagemill's API ({error.errors()[0]['msg']})") from error


def problem_of(response: httpx.Response) -> ApiError | ApiUnavailable:
    """The error of a problem document (RFC 9457). A proxy may have sent another kind of answer."""
    try:
        problem = response.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {}
    detail = str(problem.get("detail") or problem.get("title") or f"{response.status_code} {response.reason_phrase}")
    # A proxy answers 5xx without a problem document while its server is down.
    if response.status_code in RETRYABLE_STATUS or (response.is_server_error and not problem):
        return ApiUnavailable(detail, retry_after_s=_retry_after_s(response))
    return ApiError(str(problem.get("code") or f"http_{response.status_code}"), detail)


def _retry_after_s(response: httpx.Response) -> float | None:
    value = response.headers.get("Retry-After", "")
    return min(float(value), _MAX_RETRY_AFTER_S) if value.isdecimal() else None
