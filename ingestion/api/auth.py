"""The API key: one secret that every caller of `/api/v1` sends as a bearer token."""

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
    """Answers a request below `prefix` that lacks `key` before any of its body is read.

    FastAPI reads a body before it calls a dependency.
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
    """A dependency that lets a request through only with `key`. Raises ValueError where there is no key to ask for."""
    expected = _secret(key)

    async def check(credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> None:
        _check(credentials.credentials if credentials else None, expected)

    return check


def _secret(key: SecretStr) -> bytes:
    secret = key.get_secret_value().encode()
    if not secret.strip():
        raise ValueError("the API needs a key: set PAGEMILL_API_KEY to a secret that its callers send")
    return secret


def _check(sent: str | None, expected: bytes) -> None:
    """Raises Unauthorized."""
    if not sent:
        raise Unauthorized("send the API key as 'Authorization: Bearer KEY'")
    # Header bytes arrive decoded as Latin-1; this gives back the ones that were sent.
    if not hmac.compare_digest(sent.encode("latin-1"), expected):
        raise Unauthorized("the API key is not the right one")
