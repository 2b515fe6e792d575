"""Detects stalled attempts of a worker, and ends a worker whose thread hangs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ingestion.errors import Stalled
from ingestion.ports import Embedder, WatchableEmbedder
from ingestion.sandbox.pool import WALL_FACTOR
from ingestion.settings import Settings
from workers.attempt.stall import StallDetector
from workers.attempt.store import PageStore
from workers.consumer.loop import JobLoop
from workers.runtime.breaker import Breakers

_REQUESTS: Final = 2.0
"""A request that runs into its own timeout must not count as stalled before."""


class HangShutdown:
    """Ends a worker that hangs: it is not ready, begins no job, gives back its claims and exits with status 1."""

    def __init__(self, breakers: Breakers) -> None:
        self._breakers = breakers
        self._loop: JobLoop | None = None
        self.cause: str | None = None

    def attach(self, loop: JobLoop) -> None:
        """`shut_down` ends this loop, which drains first: jobs that can still finish do so."""
        self._loop = loop

    def shut_down(self, cause: str) -> None:
        """Halt the breakers and begin to end the loop. Returns at once."""
        self.cause = cause
        self._breakers.halt(cause)
        if self._loop is not None:
            self._loop.fail(Stalled(cause))


def stall_detector_of(
    settings: Settings, embedder: Embedder, store: PageStore, on_hang: Callable[[str], None]
) -> StallDetector:
    """The stall detector of a worker, with limits that fit its embedder, its stores and its settings."""
    stalls = StallDetector(floor_s=settings.worker.stall_s, factor=settings.worker.stall_factor, on_hang=on_hang)
    stalls.share_progress("store", lambda: store.writes)
    if isinstance(embedder, WatchableEmbedder):
        activity = embedder.activity
        stalls.share_progress("embed", lambda: activity.completed)
        stalls.watch_device(lambda: activity.oldest)
    stalls.set_floor("embed", _REQUESTS * settings.embedder.embedder_timeout_s)
    stalls.set_floor("store", _REQUESTS * settings.milvus.milvus_timeout_s)
    # Rendering and conversion have time limits of their own, and their errors say more about the file.
    stalls.set_floor("convert", WALL_FACTOR * settings.conversion.conversion_timeout_s + settings.worker.stall_s)
    stalls.set_floor("read", WALL_FACTOR * settings.ocr.ocr_timeout_s + settings.worker.stall_s)
    stalls.set_floor("render", WALL_FACTOR * settings.render.render_timeout_s + settings.worker.stall_s)
    return stalls
