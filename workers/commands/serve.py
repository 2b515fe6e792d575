"""`pagemill serve api|embedder|worker|janitor`: the processes of an installation."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import AsyncExitStack
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final

import structlog
import typer

from ingestion.errors import EmbedderMissing
from ingestion.logs import configure
from ingestion.scratch import own_scratch
from ingestion.settings import SECTIONS, Settings, old_variables, unknown_variables
from ingestion.tracing.export import tracing
from workers.runtime.blas import limit_blas_threads
from workers.runtime.malloc import configure_malloc

if TYPE_CHECKING:
    from workers.embedding.serving.cache import VectorCache
    from workers.embedding.serving.requests import Modality

app = typer.Typer(help="Run one of the processes in the foreground.", no_args_is_help=True)
log = structlog.get_logger(__name__)

_GRACE_S: Final = 5
_API_SWITCH_S: Final = 0.0005
"""How long a thread that computes may keep the interpreter while the event loop waits for it, which is at every event.
Python's own 5 ms are more than the loop needs for ten of them."""
_EMBEDDER_GRACE_S: Final = 10
"""A stop finishes the admitted requests, which may take as long."""
_UPLOAD_DESCRIPTORS: Final = 2
"""A connection that uploads has a temporary file too."""


class LaneOption(StrEnum):
    """Lanes of the embedding service."""

    TEXT = "text"
    IMAGE = "image"
    BOTH = "both"

    @property
    def modalities(self) -> tuple[Modality, ...]:
        lanes: dict[LaneOption, tuple[Modality, ...]] = {LaneOption.TEXT: ("text",), LaneOption.IMAGE: ("image",)}
        return lanes.get(self, ("text", "image"))


@app.command()
def api() -> None:
    """The upload and search API."""
    import uvloop

    limit_blas_threads()
    sys.setswitchinterval(_API_SWITCH_S)
    settings = _settings("api")
    with tracing(settings.tracing, "api"), own_scratch(settings.api.spool_dir) as folder:
        settings.api = settings.api.model_copy(update={"spool_dir": folder})
        uvloop.run(_api(settings))


@app.command()
def embedder(
    lane: Annotated[LaneOption, typer.Option(help="What to embed: text, images, or both as far as the model can.")] = (
        LaneOption.BOTH
    ),
    port: Annotated[int | None, typer.Option(min=1, max=65_535, help="Instead of PAGEMILL_EMBEDDER_PORT.")] = None,
) -> None:
    """The embedding service. It needs no other server. With Redis it caches embeddings."""
    import uvloop

    settings = _settings()
    if port is not None:
        settings.embedder = settings.embedder.model_copy(update={"embedder_port": port})
    if lane is LaneOption.IMAGE:
        os.nice(settings.serving.embed_image_nice)
    with tracing(settings.tracing, "embedder"), own_scratch():
        uvloop.run(_embedder(settings, lane))


@app.command()
def worker() -> None:
    """A worker that ingests documents. Start as many as there are GPUs, at most one per partition."""
    limit_blas_threads()
    settings = _settings()
    configure_malloc()
    with tracing(settings.tracing, "worker"), own_scratch():
        asyncio.run(_worker(settings))


@app.command()
def janitor() -> None:
    """The janitor: finishes work that a crash or an outage interrupted. One is enough. More do no harm."""
    settings = _settings()
    with tracing(settings.tracing, "janitor"), own_scratch():
        asyncio.run(_janitor(settings))


def _settings(process: str = "") -> Settings:
    settings = Settings(process)
    configure(settings.log)
    for variable, meant in unknown_variables(os.environ, SECTIONS).items():
        log.warning("setting is not known and has no effect", variable=variable, meant=meant)
    for variable, new in old_variables(os.environ, SECTIONS).items():
        log.warning("setting has an old name, which still works", variable=variable, new=new)
    return settings


async def _api(settings: Settings) -> None:
    from ingestion.access import check_access
    from ingestion.api.app import create_app
    from ingestion.bootstrap import open_services
    from ingestion.http.server import HttpServer
    from ingestion.search import Searcher

    async with open_services(settings) as services:
        await check_access(services)
        searcher = Searcher(
            embedder=services.embedder,
            vectors=services.vectors,
            records=services.documents,
            blobs=services.blobs,
            settings=settings.search,
            cache=services.query_cache,
        )
        server = HttpServer(
            create_app(services, searcher),
            settings.http,
            host=settings.api.api_host,
            port=settings.api.api_port,
            grace_s=_GRACE_S,
            descriptors_each=_UPLOAD_DESCRIPTORS,
        )
        await server.run()


async def _embedder(settings: Settings, lane: LaneOption) -> None:
    from ingestion.concurrency.supervision import TaskSupervisor
    from ingestion.http.server import HttpServer
    from ingestion.model import ROWS_PER_PAGE
    from ingestion.ports import WatchableEmbedder
    from workers.embedding.device_watchdog import watch_device
    from workers.embedding.factory import open_embedder
    from workers.embedding.serving.app import create_service
    from workers.embedding.serving.service import EmbeddingService
    from workers.embedding.serving.service_errors import error_body

    if settings.embedder.embedder == "remote":
        # It would answer with vectors of its own pooling under the fingerprint of the model behind the other service.
        raise EmbedderMissing(
            "an embedding service needs a model of its own: set PAGEMILL_EMBEDDER to local or visual"
        )
    async with AsyncExitStack() as stack:
        embedder = await stack.enter_async_context(open_embedder(settings.embedder, settings.render))
        service = EmbeddingService(
            embedder,
            settings.serving,
            model_id=settings.embedder.embedder,
            modalities=lane.modalities,
            max_patches=getattr(embedder, "most_tokens", ROWS_PER_PAGE),
            cache=await _cache(settings, stack),
        )
        tasks = await stack.enter_async_context(TaskSupervisor())
        if isinstance(embedder, WatchableEmbedder):
            watchdog = watch_device(settings.worker, embedder.activity, service.model)
            tasks.run_forever("device watchdog", watchdog.run)
        server = HttpServer(
            create_service(service),
            settings.http,
            host=settings.embedder.embedder_host,
            port=settings.embedder.embedder_port,
            grace_s=_EMBEDDER_GRACE_S,
            quiet=True,
            error_body=error_body,
        )
        await server.run()


async def _cache(settings: Settings, stack: AsyncExitStack) -> VectorCache | None:
    from workers.embedding.serving.cache import open_cache

    if not settings.serving.embed_cache_ttl_s:
        return None
    return await stack.enter_async_context(open_cache(settings.redis, settings.serving.embed_cache_ttl_s))


async def _worker(settings: Settings) -> None:
    from workers.worker import run_worker

    await run_worker(settings)


async def _janitor(settings: Settings) -> None:
    from workers.janitor import run_janitor

    await run_janitor(settings)
