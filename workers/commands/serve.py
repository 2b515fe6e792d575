"""`pagemill serve api|embedder|worker|janitor`: the processes of which an installation is made."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog
import typer

from ingestion.logs import configure
from ingestion.scratch import own_scratch
from ingestion.settings import Settings
from workers.memory import share_arenas

if TYPE_CHECKING:
    from fastapi import FastAPI

app = typer.Typer(help="Run one of the processes in the foreground.", no_args_is_help=True)
log = structlog.get_logger(__name__)

_GRACE_S: Final = 5


@app.command()
def api() -> None:
    """The upload and search API."""
    settings = _settings()
    with own_scratch(settings.api.spool_dir) as folder:
        settings.api = settings.api.model_copy(update={"spool_dir": folder})
        asyncio.run(_api(settings))


@app.command()
def embedder() -> None:
    """The embedding service."""
    settings = _settings()
    asyncio.run(_embedder(settings))


@app.command()
def worker() -> None:
    """A worker that ingests documents. Start as many as there are GPUs, at most one per partition."""
    settings = _settings()
    share_arenas()
    with own_scratch():
        asyncio.run(_worker(settings))


@app.command()
def janitor() -> None:
    """The janitor: finishes what crashes and outages left half done. One is enough; more do no harm."""
    settings = _settings()
    asyncio.run(_janitor(settings))


def _settings() -> Settings:
    settings = Settings()
    configure(settings.log)
    return settings


async def _api(settings: Settings) -> None:
    from ingestion.api.app import create_app
    from ingestion.bootstrap import open_services
    from ingestion.search import Searcher

    async with open_services(settings) as services:
        searcher = Searcher(
            embedder=services.embedder,
            vectors=services.vectors,
            documents=services.documents,
            blobs=services.blobs,
            settings=settings.search,
        )
        await _serve_http(create_app(services, searcher), settings.api.api_host, settings.api.api_port)


async def _embedder(settings: Settings) -> None:
    from workers.embedding.factory import open_embedder
    from workers.embedding.service import create_service

    async with open_embedder(settings.embedder, settings.render) as embedder:
        service = create_service(embedder, model_id=settings.embedder.embedder)
        await _serve_http(service, settings.embedder.embedder_host, settings.embedder.embedder_port)


async def _serve_http(application: FastAPI, host: str, port: int) -> None:
    import uvicorn

    config = uvicorn.Config(
        application, host=host, port=port, log_config=None, access_log=False, timeout_graceful_shutdown=_GRACE_S
    )
    await uvicorn.Server(config).serve()


async def _worker(settings: Settings) -> None:
    from workers.worker import run_worker

    await run_worker(settings)


async def _janitor(settings: Settings) -> None:
    from workers.upkeep import run_janitor

    await run_janitor(settings)
