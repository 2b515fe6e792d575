"""The application: routes put together, and what they work with attached to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from importlib.resources import files
from typing import Final

import structlog
from fastapi import APIRouter, Depends, FastAPI
from starlette.responses import HTMLResponse

from ingestion.api import documents, events, health, problems, search, upload
from ingestion.api.auth import ApiKeyMiddleware, require_key
from ingestion.api.entity_counts import EntityCounts
from ingestion.api.search_admission import SearchAdmissionMiddleware
from ingestion.api.shutdown import ShutdownMiddleware
from ingestion.api.views import API_PREFIX
from ingestion.bootstrap import Services
from ingestion.errors import WorkerFault
from ingestion.pdf import inspect_pdf
from ingestion.removal import Remover
from ingestion.sandbox import Sandbox
from ingestion.search import Searcher
from ingestion.submit import Submitter
from ingestion.usage import Usage

log = structlog.get_logger(__name__)

INSPECT_MEMORY_BYTES: Final = 512 * 1024**2
"""Address space of a child that opens an uploaded PDF: two million objects take 136 MiB."""


def create_app(services: Services, searcher: Searcher) -> FastAPI:
    """The API over `services`. Raises ValueError where no API key is set. Connects to nothing."""
    # The pages that FastAPI makes of the schema load their scripts from elsewhere.
    sandbox = Sandbox(processes=services.settings.api.inspect_processes + 1, memory_bytes=INSPECT_MEMORY_BYTES)
    app = FastAPI(
        title="Pagemill",
        summary="PDFs in, the right page out",
        docs_url=None,
        redoc_url=None,
        lifespan=partial(_with_children, sandbox),
    )
    app.state.services = services
    app.state.searcher = searcher
    app.state.submitter = _submitter(services, sandbox)
    app.state.remover = Remover(
        services.documents, services.vectors, services.blobs, services.queue, services.progress
    )
    app.state.usage = Usage(services.documents)
    app.state.readiness = health.Readiness(services)
    app.state.entity_counts = EntityCounts(services.documents, services.vectors)
    problems.install(app)
    key = services.settings.api.api_key
    api = APIRouter(prefix=API_PREFIX, dependencies=[Depends(require_key(key))])
    # The last one added is the first to see a request.
    app.add_middleware(SearchAdmissionMiddleware, check=searcher.check_room)
    app.add_middleware(ApiKeyMiddleware, prefix=API_PREFIX, key=key)
    app.add_middleware(ShutdownMiddleware)
    for routes in (upload, documents, events, search):
        api.include_router(routes.router)
    app.include_router(api)
    app.include_router(health.router)
    app.add_api_route("/", _web_page(), response_class=HTMLResponse, include_in_schema=False)
    return app


@asynccontextmanager
async def _with_children(sandbox: Sandbox, app: FastAPI) -> AsyncIterator[None]:
    """Say at start what protects this process from PDFs. Where no child starts, an upload says so again."""
    try:
        await sandbox.start(inspect_pdf.__module__)
    except WorkerFault as error:
        log.error("no PDF can be accepted", cause=str(error))
    yield
    sandbox.close()


def _web_page() -> Callable[[], Awaitable[HTMLResponse]]:
    page = HTMLResponse((files("ingestion.api") / "static" / "index.html").read_text("utf-8"))

    async def web_page() -> HTMLResponse:
        return page

    return web_page


def _submitter(services: Services, sandbox: Sandbox) -> Submitter:
    api = services.settings.api
    return Submitter(
        documents=services.documents,
        blobs=services.blobs,
        queue=services.queue,
        progress=services.progress,
        sandbox=sandbox,
        max_pages=api.max_pages,
        inspect_timeout_s=api.inspect_timeout_s,
        store_budget_s=api.store_budget_s,
        inspect_processes=api.inspect_processes,
    )
