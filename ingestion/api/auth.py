"""The API key: one secret that clients of `/api/v1` send as a bearer token."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from ingestion.api.problems import problem, status_of
from ingestion.errors import Unauthorized

_bearer = HTTPBearer(auto_error=False, description="the value of PAGEMILL_API_KEY")
_SCHEME = "bearer"


class ApiKeyMiddleware:
    """Answers 401 to a request below `prefix` without `key`, before its body is read.

    FastAPI reads the body before it calls dependencies, so `require_key` is too late for that.
    """

    def __init__(self, app: ASGIApp, prefix: str, key: SecretStr) -> None:
        self._app = app
        self._prefix = prefix
        self._expected = _secret(key)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(self._prefix):
            scheme, _, credentials = Headers(scope=scope).get("authorization", "").partition(" ")
            try:
                _check(credentials.strip() if scheme.lower() == _SCHEME else None, self._expected)
            except Unauthorized as error:
                headers = {"WWW-Authenticate": "Bearer"}
                await problem(status_of(error), error.code, error.message, headers=headers)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def require_key(key: SecretStr) -> Callable[[HTTPAuthorizationCredentials | None], Awaitable[None]]:
    """A dependency that raises Unauthorized for a request without `key`. Raises ValueError where `key` is empty.

    It also puts the security scheme into the OpenAPI document.
    """
    expected = _secret(key)

    async def check(credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> None:
        _check(credentials.credentials if credentials else None, expected)

    return check


def _secret(key: SecretStr) -> bytes:
    secret = key.get_secret_value().encode()
    if not secret.strip():
        raise ValueError("the API needs a key: set PAGEMILL_API_KEY to a secret that its clients send")
    return secret


def _check(sent: str | None, expected: bytes) -> None:
    """Raises Unauthorized."""
    if not sent:
        raise Unauthorized("send the API key as 'Authorization: Bearer KEY'")
    # Starlette decodes headers as Latin-1; this restores the bytes that were sent.
    if not hmac.compare_digest(sent.encode("latin-1"), expected):
        raise Unauthorized("the API key is wrong")
