"""Early rejection of searches while search is at its limit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from ingestion.api.problems import problem_of
from ingestion.api.views import API_PREFIX
from ingestion.errors import Overloaded

_COLLECTIONS: Final = f"{API_PREFIX}/collections/"
_SEARCH: Final = "/search"


class SearchAdmissionMiddleware:
    """Answers searches with 429 while no search is admitted. The route would take ten times as long to answer that.

    It reads only the address: the API key has been checked before.
    """

    def __init__(self, app: ASGIApp, *, check: Callable[[], None]) -> None:
        """`check` raises Overloaded while no search is admitted."""
        self._app = app
        self._check = check

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if _is_search(scope):
            try:
                self._check()
            except Overloaded as error:
                await problem_of(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _is_search(scope: Scope) -> bool:
    if scope["type"] != "http" or scope["method"] != "POST":
        return False
    path: str = scope["path"]
    return path.startswith(_COLLECTIONS) and path.endswith(_SEARCH)
