"""The FastAPI application: routes, middleware, and the objects that the routes use."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import Final

import structlog
from fastapi import APIRouter, Depends, FastAPI

from ingestion.api import (
    caller,
    cancel,
    dead_letters,
    document_pages,
    documents,
    events,
    health,
    highlights,
    keys,
    openapi,
    problems,
    search,
    system,
    upload,
    webhooks,
)
from ingestion.api.auth import ApiKeyMiddleware, authorize, secret_of
from ingestion.api.client_address import address_reader
from ingestion.api.pages import add_pages
from ingestion.api.search_admission import SearchAdmissionMiddleware
from ingestion.api.shutdown import ShutdownMiddleware
from ingestion.api.views import API_PREFIX
from ingestion.bootstrap import Services
from ingestion.cancel import Canceller
from ingestion.errors import WorkerFault
from ingestion.keys.authenticator import Authenticator
from ingestion.keys.login_limiter import LoginLimiter
from ingestion.keys.quotas import QuotaKeeper, Quotas
from ingestion.pdf.pdfium import read_info
from ingestion.removal import Remover
from ingestion.replay.replayer import Replayer
from ingestion.sandbox.pool import Sandbox
from ingestion.search import Searcher
from ingestion.submit import Submitter
from ingestion.system import SystemReader
from ingestion.usage import UsageRecorder
from ingestion.viewing.highlights import Highlighter
from ingestion.viewing.images import PageImages

log = structlog.get_logger(__name__)

INSPECT_MEMORY_BYTES: Final = 512 * 1024**2
"""Address space of a child process that opens an uploaded PDF. Two million objects take 136 MiB."""


def create_app(services: Services, searcher: Searcher) -> FastAPI:
    """The API on top of `services`. Raises ValueError where no API key is set. Opens no connection."""
    sandbox = Sandbox(processes=services.settings.api.inspect_processes + 1, memory_bytes=INSPECT_MEMORY_BYTES)
    images = PageImages(services.blobs)
    app = FastAPI(
        title="Pagemill",
        summary="PDFs in, the right page out",
        version=version("pagemill"),
        docs_url=None,  # FastAPI's own pages load scripts from other hosts; `add_pages` has one that does not.
        redoc_url=None,
        lifespan=partial(_lifespan, sandbox, images),
        # `ingestion.http` records a request's span. FastAPI's own would be a second one, with messages of errors.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.services = services
    app.state.searcher = searcher
    quotas = _quotas(services)
    app.state.submitter = _submitter(services, sandbox, quotas)
    app.state.remover = Remover(
        services.documents,
        services.vectors,
        services.blobs,
        services.queue,
        services.progress,
        budget_s=services.settings.api.store_budget_s,
    )
    app.state.page_images = images
    app.state.highlighter = Highlighter(
        embedder=services.embedder, collections=services.documents, blobs=services.blobs
    )
    app.state.canceller = Canceller(
        services.documents,
        services.vectors,
        services.blobs,
        services.queue,
        services.progress,
        budget_s=services.settings.api.store_budget_s,
    )
    app.state.replayer = Replayer(services.dead_letters, services.documents, services.queue, services.progress)
    app.state.system = SystemReader(services.documents, services.consumer_group, services.progress)
    app.state.usage = UsageRecorder(services.documents)
    app.state.readiness = health.Readiness(services)
    problems.install(app)
    app.state.authenticator = authenticator = _authenticator(services)
    api = APIRouter(prefix=API_PREFIX, dependencies=[Depends(authorize)])
    # The middleware that is added last sees a request first.
    app.add_middleware(SearchAdmissionMiddleware, check=searcher.check_capacity)
    app.add_middleware(
        ApiKeyMiddleware,
        prefixes=(API_PREFIX,),
        authenticator=authenticator,
        quotas=quotas,
        address_of=address_reader(services.settings.http.http_trusted_proxies),
    )
    app.add_middleware(ShutdownMiddleware)
    for routes in (
        upload,
        documents,
        cancel,
        document_pages,
        highlights,
        events,
        search,
        dead_letters,
        system,
        keys,
        caller,
        webhooks,
    ):
        api.include_router(routes.router)
    app.include_router(api)
    app.include_router(health.router)
    add_pages(app)
    openapi.install(app)
    return app


@asynccontextmanager
async def _lifespan(sandbox: Sandbox, images: PageImages, app: FastAPI) -> AsyncIterator[None]:
    """Start the sandbox, which logs its protections. If it cannot start, each upload fails with the same error."""
    try:
        await sandbox.start(read_info)
    except WorkerFault as error:
        log.error("sandbox not started; uploads will fail", cause=str(error))
    yield
    sandbox.close()
    images.close()


def _authenticator(services: Services) -> Authenticator:
    api = services.settings.api
    return Authenticator(
        services.documents,
        secret_of(api.api_key),
        cache_s=api.key_cache_s,
        limiter=LoginLimiter(api.login_failures_per_minute),
    )


def _quotas(services: Services) -> QuotaKeeper:
    api = services.settings.api
    quotas = Quotas(
        requests_per_s=api.quota_requests_per_s,
        bytes_per_day=api.quota_bytes_per_day,
        pages_per_day=api.quota_pages_per_day,
        documents_in_flight=api.quota_documents_in_flight,
        pages_stored=api.quota_pages_stored,
    )
    return QuotaKeeper(services.documents, quotas, api.quota_overrides)


def _submitter(services: Services, sandbox: Sandbox, quotas: QuotaKeeper) -> Submitter:
    api = services.settings.api
    return Submitter(
        records=services.documents,
        blobs=services.blobs,
        queue=services.queue,
        progress=services.progress,
        sandbox=sandbox,
        max_pages=api.max_pages,
        inspect_timeout_s=api.inspect_timeout_s,
        store_budget_s=api.store_budget_s,
        inspect_processes=api.inspect_processes,
        with_office=services.settings.conversion.converter != "off",
        reserve=quotas.reserved,
    )
