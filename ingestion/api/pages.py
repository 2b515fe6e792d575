"""The web page at `/` and the API documentation at `/docs`: files of this package, nothing from other hosts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from importlib.resources import files
from typing import Final

from fastapi import FastAPI
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

_PACKAGE: Final = "ingestion.api"
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; "
)
WEB_PAGE_POLICY: Final = (
    _POLICY + "style-src 'self'; img-src 'self' blob:; require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Content-Security-Policy of the web page. Its images of pages are blobs, because they need the key. Trusted types
forbid markup made from texts: a script that sets `innerHTML` fails."""
DOCS_POLICY: Final = _POLICY + "style-src 'self' 'unsafe-inline'; img-src 'self' data:"
"""Content-Security-Policy of `/docs`. Swagger UI sets `style` attributes."""


def add_pages(app: FastAPI) -> None:
    """Serve `/`, `/docs`, and their scripts and styles below `/static`. None of them needs the API key."""
    app.mount("/static", _StaticFiles(packages=[(_PACKAGE, "static")]), name="static")
    for path, name, policy in (("/", "index.html", WEB_PAGE_POLICY), ("/docs", "docs.html", DOCS_POLICY)):
        app.add_api_route(path, _page(name, policy), response_class=HTMLResponse, include_in_schema=False)


def _page(name: str, policy: str) -> Callable[[], Awaitable[HTMLResponse]]:
    html = (files(_PACKAGE) / "static" / name).read_text("utf-8")
    page = HTMLResponse(html, headers={**_headers(policy), "Cache-Control": "no-cache"})

    async def answer() -> HTMLResponse:
        return page

    return answer


def _headers(policy: str) -> Mapping[str, str]:
    return {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }


class _StaticFiles(StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(_headers("default-src 'none'; frame-ancestors 'none'"))
        response.headers["Cache-Control"] = "no-cache"  # with the ETag: modules of one release never meet another's
        return response
