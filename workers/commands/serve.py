"""`pagemill serve api|embedder|worker|janitor`: the processes of which an installation is made."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final

import structlog
import typer

from ingestion.logs import configure
from ingestion.scratch import own_scratch
from ingestion.settings import Settings
from workers.blas import one_core_a_product
from workers.memory import share_arenas

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from workers.embedding.serving.cache import VectorCache
    from workers.embedding.serving.requests import Modality

app = typer.Typer(help="Run one of the processes in the foreground.", no_args_is_help=True)
log = structlog.get_logger(__name__)

_GRACE_S: Final = 5
_EMBEDDER_GRACE_S: Final = 10
"""What was admitted is finished, which may take as long."""


class Lane(StrEnum):
    """Lanes of the embedding service."""

    TEXT = "text"
    IMAGE = "image"
    BOTH = "both"

    @property
    def modalities(self) -> tuple[Modality, ...]:
        lanes: dict[Lane, tuple[Modality, ...]] = {Lane.TEXT: ("text",), Lane.IMAGE: ("image",)}
        return lanes.get(self, ("text", "image"))


@app.command()
def api() -> None:
    """The upload and search API."""
    one_core_a_product()
    settings = _settings()
    with own_scratch(settings.api.spool_dir) as folder:
        settings.api = settings.api.model_copy(update={"spool_dir": folder})
        asyncio.run(_api(settings))


@app.command()
def embedder(
    lane: Annotated[Lane, typer.Option(help="What to embed: text, images, or both as far as the model can.")] = (
        Lane.BOTH
    ),
    port: Annotated[int | None, typer.Option(min=1, max=65_535, help="Instead of PAGEMILL_EMBEDDER_PORT.")] = None,
) -> None:
    """The embedding service. Needs no other server; with Redis it remembers what it has embedded."""
    import uvloop

    settings = _settings()
    if port is not None:
        settings.embedder = settings.embedder.model_copy(update={"embedder_port": port})
    if lane is Lane.IMAGE:
        os.nice(settings.serving.embed_image_nice)
    uvloop.run(_embedder(settings, lane))


@app.command()
def worker() -> None:
    """A worker that ingests documents. Start as many as there are GPUs, at most one per partition."""
    one_core_a_product()
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
            cache=services.query_cache,
        )
        await _serve_http(create_app(services, searcher), settings.api.api_host, settings.api.api_port)


async def _embedder(settings: Settings, lane: Lane) -> None:
    from ingestion.ports import WatchableEmbedder
    from ingestion.supervision import Background
    from workers.embedding.factory import open_embedder
    from workers.embedding.hang import hang_watch
    from workers.embedding.serving.app import create_service
    from workers.embedding.serving.service import EmbeddingService

    async with AsyncExitStack() as stack:
        embedder = await stack.enter_async_context(open_embedder(settings.embedder, settings.render))
        service = EmbeddingService(
            embedder,
            settings.serving,
            model_id=settings.embedder.embedder,
            modalities=lane.modalities,
            max_patches=settings.embedder.colqwen_max_tokens,
            cache=await _cache(settings, stack),
        )
        tasks = await stack.enter_async_context(Background())
        if isinstance(embedder, WatchableEmbedder):
            watch = hang_watch(settings.worker, embedder.steps, service.model)
            tasks.for_ever("watch of the device", watch.run)
        await _serve_http(
            create_service(service),
            settings.embedder.embedder_host,
            settings.embedder.embedder_port,
            grace_s=_EMBEDDER_GRACE_S,
        )


async def _cache(settings: Settings, stack: AsyncExitStack) -> VectorCache | None:
    from workers.embedding.serving.cache import open_cache

    if not settings.serving.embed_cache_ttl_s:
        return None
    return await stack.enter_async_context(open_cache(settings.redis, settings.serving.embed_cache_ttl_s))


async def _serve_http(application: Starlette, host: str, port: int, *, grace_s: int = _GRACE_S) -> None:
    import uvicorn

    config = uvicorn.Config(
        application, host=host, port=port, log_config=None, access_log=False, timeout_graceful_shutdown=grace_s
    )
    await uvicorn.Server(config).serve()


async def _worker(settings: Settings) -> None:
    from workers.worker import run_worker

    await run_worker(settings)


async def _janitor(settings: Settings) -> None:
    from workers.upkeep import run_janitor

    await run_janitor(settings)
