"""The end of a worker that cannot get on by itself: a thread of it hangs, in a device perhaps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ingestion.errors import Stalled
from ingestion.ports import Embedder, WatchableEmbedder
from ingestion.sandbox import WALL_FACTOR
from ingestion.settings import Settings
from workers.attempt.stall import StallDetector
from workers.attempt.store import PageStore
from workers.consumer.loop import JobLoop
from workers.runtime.breaker import Breakers

_REQUESTS: Final = 2.0
"""What runs into a timeout of its own must not count as stalled before."""


class HangShutdown:
    """Takes the worker out of service: not ready, no job any more, what is in flight given back, exit status 1."""

    def __init__(self, breakers: Breakers) -> None:
        self._breakers = breakers
        self._loop: JobLoop | None = None
        self.cause: str | None = None

    def attach(self, loop: JobLoop) -> None:
        """From now on a standstill ends `loop`, which drains first: what can be finished is."""
        self._loop = loop

    def shut_down(self, cause: str) -> None:
        """Say so, and begin to end. Returns at once."""
        self.cause = cause
        self._breakers.halt(cause)
        if self._loop is not None:
            self._loop.fail(Stalled(cause))


def stall_detector_of(
    settings: Settings, embedder: Embedder, store: PageStore, on_hang: Callable[[str], None]
) -> StallDetector:
    """What watches the attempts of a worker with that embedder and that store."""
    stalls = StallDetector(floor_s=settings.worker.stall_s, factor=settings.worker.stall_factor, on_hang=on_hang)
    stalls.share_progress("store", lambda: store.writes)
    if isinstance(embedder, WatchableEmbedder):
        steps = embedder.steps
        stalls.share_progress("embed", lambda: steps.done)
        stalls.watch_device(lambda: steps.oldest)
    stalls.set_floor("embed", _REQUESTS * settings.embedder.embedder_timeout_s)
    stalls.set_floor("store", _REQUESTS * settings.milvus.milvus_timeout_s)
    # A drawing has a limit by the clock of its own, which says more of the page.
    stalls.set_floor("render", WALL_FACTOR * settings.render.render_timeout_s + settings.worker.stall_s)
    return stalls
