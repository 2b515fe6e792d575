"""The OpenAPI document: every problem that a route may answer, with its codes, and examples of requests."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import cleandoc
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from ingestion import errors
from ingestion.api.problems import status_of
from ingestion.api.views import API_PREFIX
from ingestion.errors import FileError, IngestError

_PROBLEM: Final = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string", "description": "urn:pagemill:problem: and the code"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "what is wrong, with what, and what to do"},
        "code": {"type": "string", "description": "stable: see docs/error-codes.md"},
    },
}
_TITLES: Final = {
    400: "the request cannot be used as it is",
    401: "no API key, or one that is not valid",
    403: "the key may not do this",
    404: "there is no such document, page or address",
    405: "the address has no such method",
    409: "the state of the document or collection does not allow this",
    413: "the body is too large",
    422: "the request or the file is not valid",
    429: "too much is in flight; repeat it after Retry-After",
    500: "a fault of the server, not caused by the request",
    503: "a server does not answer; repeat it after Retry-After",
}
_EVERY: Final = (400, 401, 403, 404, 409, 422, 429, 500, 503)
"""What any route below API_PREFIX may answer: the key, the tenant, the address and the stores decide."""
_WITH_BODY: Final = (413,)
_HTTP_CODES: Final = {404: "not_found", 405: "method_not_allowed", 413: "content_too_large"}
_EXAMPLES: Final[dict[str, Any]] = {
    "SearchRequest": {"query": "torque of the rear axle", "top_k": 5},
    "DocumentPatch": {"metadata": {"year": 2026}, "tags": ["manual"]},
    "KeyRequest": {"role": "read", "name": "chat", "expires_at": "2030-01-01T00:00:00Z"},
    "WebhookRequest": {"url": "https://hooks.example/pagemill", "events": ["document.ready", "document.failed"]},
    "ReasonView": {"why": "the bucket is back"},
    "DeleteRequest": {"filter": "year < 2020", "dry_run": True},
}


def install(app: FastAPI) -> None:
    """Describe the routes of `app`, which must have all of them."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _described(
                get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
            )
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _described(schema: dict[str, Any]) -> dict[str, Any]:
    schemas = schema.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"] = _PROBLEM
    for name, example in _EXAMPLES.items():
        if name in schemas:
            schemas[name]["example"] = example
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            responses = operation["responses"]
            responses.pop("422", None)  # FastAPI's own form of it; this API answers a problem
            for status in _statuses(path, method):
                responses[str(status)] = _problem_response(
                    status, is_upload="multipart" in str(operation.get("requestBody"))
                )
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    return schema


def _statuses(path: str, method: str) -> tuple[int, ...]:
    if not path.startswith(API_PREFIX):
        return (401, 500, 503)
    return (*_EVERY, *_WITH_BODY) if method in ("post", "patch", "put") else _EVERY


def _problem_response(status: int, *, is_upload: bool) -> dict[str, Any]:
    codes = dict(_codes(status, is_upload=is_upload))
    response: dict[str, Any] = {
        "description": f"{_TITLES[status]}: {', '.join(codes)}",
        "content": {
            "application/problem+json": {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "examples": {code: {"value": _example(status, code, detail)} for code, detail in codes.items()},
            }
        },
    }
    if status in (429, 503):
        response["headers"] = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}
    if status == 401:
        response["headers"] = {"WWW-Authenticate": {"schema": {"type": "string"}}}
    return response


def _codes(status: int, *, is_upload: bool) -> Iterator[tuple[str, str]]:
    """Codes of problems with this status, and what they mean."""
    if status in _HTTP_CODES:
        yield _HTTP_CODES[status], _TITLES[status]
    if status == 422:
        yield errors.BadRequest.code, "a parameter, or a field of the body, is not valid"
    if status == 503:
        yield "not_ready", "a server that this process needs is down"
    for kind in _classes():
        error = kind.__new__(kind)
        is_of_files = issubclass(kind, FileError)
        if status_of(error) == status and (is_upload or not is_of_files) and kind.code != "permanent":
            yield kind.code, cleandoc(kind.__doc__ or "").partition("\n\n")[0].replace("\n", " ")


def _classes(root: type[IngestError] = IngestError) -> Iterator[type[IngestError]]:
    if root is IngestError:
        yield root
    for kind in root.__subclasses__():
        if kind.__module__.startswith("ingestion.errors."):
            yield kind
            yield from _classes(kind)


def _example(status: int, code: str, detail: str) -> dict[str, Any]:
    title = code.replace("_", " ").capitalize()
    return {"type": f"urn:pagemill:problem:{code}", "title": title, "status": status, "detail": detail, "code": code}
