"""`pagemill serve api|embedder|worker`: the processes of which an installation is made."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from typing import TYPE_CHECKING, Final

import structlog
import typer

from ingestion.logs import configure
from ingestion.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

app = typer.Typer(help="Run one of the processes in the foreground.", no_args_is_help=True)
log = structlog.get_logger(__name__)

_GRACE_S: Final = 5
_POLL_SILENCE_S: Final = 15.0


@app.command()
def api() -> None:
    """The upload and search API."""
    settings = _settings()
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
    asyncio.run(_worker(settings))


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

    async with open_embedder(settings.embedder) as embedder:
        service = create_service(embedder, model_id=settings.embedder.embedder)
        await _serve_http(service, settings.embedder.embedder_host, settings.embedder.embedder_port)


async def _serve_http(application: FastAPI, host: str, port: int) -> None:
    import uvicorn

    config = uvicorn.Config(
        application, host=host, port=port, log_config=None, access_log=False, timeout_graceful_shutdown=_GRACE_S
    )
    await uvicorn.Server(config).serve()


async def _worker(settings: Settings) -> None:
    from ingestion.adapters.kafka import JobConsumer
    from ingestion.bootstrap import open_services
    from workers.embedding.factory import open_embedder
    from workers.health import HealthServer
    from workers.loop import JobLoop
    from workers.pipeline import Pipeline
    from workers.render import PdfRenderer
    from workers.store import PageStore

    name = settings.worker.worker_id or f"{socket.gethostname()}-{os.getpid()}"
    structlog.contextvars.bind_contextvars(worker=name)
    async with open_services(settings) as services, open_embedder(settings.embedder) as embedder:
        pipeline = Pipeline(
            documents=services.documents,
            blobs=services.blobs,
            store=PageStore(services.documents, services.blobs, services.vectors, settings.render.image_format),
            renderer=PdfRenderer(settings.render, max_pages=settings.api.max_pages),
            embedder=embedder,
            queue=services.queue,
            progress=services.progress,
            worker=name,
            lease_s=settings.worker.lease_s,
            max_attempts=settings.worker.max_attempts,
        )
        loop = JobLoop(
            JobConsumer(settings.kafka, name),
            pipeline.run,
            jobs_in_flight=settings.worker.jobs_in_flight,
            drain_s=settings.worker.drain_s,
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, loop.stop)
        health = HealthServer(
            settings.worker.worker_metrics_host,
            settings.worker.worker_metrics_port,
            lambda: loop.is_member and time.monotonic() - loop.polled_at < _POLL_SILENCE_S,
        )
        log.info("worker started", embedder=embedder.fingerprint, health_port=health.port)
        try:
            await loop.run()
        finally:
            health.close()
