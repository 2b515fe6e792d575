"""The API key: one secret that every caller of `/api/v1` sends as a bearer token."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import SecretStr
from starlette.types import Scope

from ingestion.errors import Unauthorized

_bearer = HTTPBearer(auto_error=False, description="the value of PAGEMILL_API_KEY")


def bears(key: SecretStr) -> Callable[[Scope], bool]:
    """Whether a request's header fields hold `key`, spelled as callers spell it."""
    expected = b"bearer " + key.get_secret_value().encode()

    def check(scope: Scope) -> bool:
        sent = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        return hmac.compare_digest(sent[:7].lower() + sent[7:], expected)

    return check


def require_key(key: SecretStr) -> Callable[[HTTPAuthorizationCredentials | None], Awaitable[None]]:
    """A dependency that lets a request through only with `key`. Raises ValueError where there is no key to ask for."""
    expected = key.get_secret_value().encode()
    if not expected.strip():
        raise ValueError("the API needs a key: set PAGEMILL_API_KEY to a secret that its callers send")

    async def check(credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> None:
        if credentials is None:
            raise Unauthorized("send the API key as 'Authorization: Bearer KEY'")
        # Header bytes arrive decoded as Latin-1; this gives back the ones that were sent.
        if not hmac.compare_digest(credentials.credentials.encode("latin-1"), expected):
            raise Unauthorized("the API key is not the right one")

    return check
