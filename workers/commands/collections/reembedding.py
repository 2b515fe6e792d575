"""The work and the output of `pagemill collections reembed`."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

import anyio
import structlog
import typer

from ingestion.bootstrap import Services
from ingestion.catalogue.generations import Binding
from ingestion.concurrency.supervision import TaskSupervisor
from ingestion.errors import CollectionHeld, NotFound
from ingestion.model import check_qualified
from ingestion.ports import Embedder, WatchableEmbedder
from ingestion.retrying import retrying
from ingestion.settings import EmbedderSettings, WorkerSettings
from ingestion.vectors.encoding import VectorEncoding
from workers.attempt.store import PageStore
from workers.commands.installation import open_installation
from workers.commands.terminal import say, write_json_line
from workers.embedding.device_watchdog import DeviceWatchdog
from workers.embedding.factory import open_embedder
from workers.reembed.cleanup import GenerationCleanup
from workers.reembed.mover import Mover
from workers.reembed.reembedder import Reembedder, abort_reembedding
from workers.runtime.watchdog import exit_within

_REPORT_EVERY_S: Final = 5.0
_HOLD_SLACK_S: Final = 0.5
_EXIT_S: Final = 1.0
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Status:
    """`stage` is done, filling, closing or clearing; the counts are of the coming generation, if there is one."""

    collection: str
    stage: Literal["done", "filling", "closing", "clearing"]
    embedder: str
    generation: int
    next_embedder: str | None
    documents: int
    documents_done: int
    pages: int
    pages_done: int

    def in_words(self) -> str:
        if self.next_embedder is None:
            cleanup = "; the former vectors are being removed" if self.stage == "clearing" else ""
            return f"{self.collection}: {self.pages:,} pages with {self.embedder}{cleanup}"
        return (
            f"{self.collection}: {self.pages_done:,} of {self.pages:,} pages with {self.next_embedder}, "
            f"{self.stage}; searched with {self.embedder}"
        )


def show_status(collection: str, *, as_json: bool, data_dir: Path | None) -> None:
    """Raises NotFound, DependencyUnavailable."""
    anyio.run(_show_status, collection, as_json, data_dir)


def abort(collection: str, *, as_json: bool, data_dir: Path | None) -> None:
    """Raises NotFound, CollectionHeld while the re-embedding still runs, DependencyUnavailable."""
    anyio.run(_abort, collection, as_json, data_dir)


def run(collection: str, embedder: str, url: str | None, *, as_json: bool, data_dir: Path | None) -> None:
    """Raises the errors of `Reembedder.run` and of `open_embedder`."""
    anyio.run(_run, collection, embedder, url, as_json, data_dir)


async def _show_status(collection: str, as_json: bool, data_dir: Path | None) -> None:
    check_qualified(collection)
    async with open_installation(data_dir) as services:
        _show(await _status(services, collection), as_json)


async def _abort(collection: str, as_json: bool, data_dir: Path | None) -> None:
    async with open_installation(data_dir) as services:
        cleanup = GenerationCleanup(services.documents, services.vectors, _store(services))
        await _once_free(lambda: abort_reembedding(services.documents, cleanup, collection))
        _show(await _status(services, collection), as_json)


async def _run(collection: str, embedder: str, url: str | None, as_json: bool, data_dir: Path | None) -> None:
    async with open_installation(data_dir) as services:
        settings = _with(services.settings.embedder, embedder, url)
        async with (
            open_embedder(settings, services.settings.render) as opened,
            _watched(opened, services.settings.worker),
        ):
            store = _store(services)
            window_pages = services.settings.render.render_window_pages
            mover = Mover(services.documents, services.blobs, services.vectors, store, opened, window_pages)
            reembedder = Reembedder(
                services.documents,
                services.vectors,
                services.queue,
                mover,
                GenerationCleanup(services.documents, services.vectors, store),
                rest_s=services.settings.worker.lease_s,
            )
            report = _Report()
            await _once_free(lambda: reembedder.run(collection, report.add))
            _show(await _status(services, collection), as_json)


@asynccontextmanager
async def _watched(embedder: Embedder, settings: WorkerSettings) -> AsyncIterator[None]:
    """End this process where the embedder's device hangs during the block.

    A thread that hangs in a device call cannot be ended. An embedder in another process has timeouts of its own.
    """
    if not isinstance(embedder, WatchableEmbedder):
        yield
        return
    watchdog = DeviceWatchdog(
        embedder.activity, floor_s=settings.stall_s, factor=settings.stall_factor, on_hang=_exit_on_hang
    )
    async with TaskSupervisor() as tasks:
        tasks.run_forever("device watchdog", watchdog.run)
        yield


def _exit_on_hang(cause: str) -> None:
    typer.echo(
        f"error: {cause}. Pages that are done stay done: repair or restart the device, and run the command again",
        err=True,
    )
    exit_within(_EXIT_S)


def _with(settings: EmbedderSettings, embedder: str, url: str | None) -> EmbedderSettings:
    changes = {"embedder": embedder} if url is None else {"embedder": embedder, "embedder_url": url}
    return settings.model_copy(update=changes)


def _store(services: Services) -> PageStore:
    vectors = services.settings.vectors
    return PageStore(
        services.documents,
        services.blobs,
        services.vectors,
        VectorEncoding(vectors.index_pooling, vectors.blob_precision),
    )


async def _once_free(work: Callable[[], Awaitable[Binding]]) -> None:
    """A killed process keeps the collection for some seconds yet; one that is alive keeps it on and on."""
    try:
        await work()
    except CollectionHeld as held:
        say(f"{held.message}: waiting")
        await anyio.sleep(held.retry_in_s + _HOLD_SLACK_S)
        await work()


async def _status(services: Services, collection: str) -> Status:
    bound = await services.documents.binding(collection)
    if bound is None:
        raise NotFound(f"there is no collection {collection!r} with pages in it")
    shown = bound.next or bound.current
    totals = await retrying(services.documents.generation_totals, collection, shown.number)
    return Status(
        collection=collection,
        stage=_stage(bound),
        embedder=bound.current.fingerprint,
        generation=bound.current.number,
        next_embedder=bound.next.fingerprint if bound.next else None,
        **asdict(totals),
    )


def _stage(bound: Binding) -> Literal["done", "filling", "closing", "clearing"]:
    if bound.next is not None:
        return "closing" if bound.is_closing else "filling"
    return "clearing" if bound.leaving else "done"


def _show(status: Status, as_json: bool) -> None:
    if as_json:
        write_json_line(asdict(status))
    else:
        say(status.in_words())


class _Report:
    """Reports the number of embedded pages every few seconds."""

    def __init__(self) -> None:
        self._pages = 0
        self._told_at = self._began_at = time.monotonic()

    def add(self, pages: int) -> None:
        self._pages += pages
        now = time.monotonic()
        if now - self._told_at >= _REPORT_EVERY_S:
            self._told_at = now
            log.info("embedded", pages=self._pages, pages_per_s=round(self._pages / (now - self._began_at), 2))
