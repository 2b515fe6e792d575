"""The shutdown of a worker whose work hangs."""

from __future__ import annotations

from typing import Any, cast

from ingestion.errors import Stalled
from ingestion.settings import Settings
from tests.support.embedders import WordEmbedder
from workers.attempt.store import PageStore
from workers.consumer.hang import HangShutdown, stall_detector_of
from workers.consumer.loop import JobLoop
from workers.runtime.breaker import Breakers


class Loop:
    fault: BaseException | None = None

    def fail(self, fault: BaseException) -> None:
        self.fault = fault


def test_a_worker_that_is_stuck_goes_not_ready_and_ends_its_loop_with_an_error() -> None:
    breakers, loop = Breakers({}), Loop()
    shutdown = HangShutdown(breakers)
    shutdown.attach(cast(JobLoop, loop))
    shutdown.shut_down("the device hangs")
    assert breakers.is_blocking
    assert [outage.cause for outage in breakers.outages] == ["the device hangs"]
    assert isinstance(loop.fault, Stalled)
    assert shutdown.cause == "the device hangs"


class Watchable(WordEmbedder):
    class Activity:
        completed = 0
        oldest: object = None

    def __init__(self) -> None:
        super().__init__()
        self.activity = self.Activity()


def test_stall_limits_exceed_the_timeouts_of_their_stages() -> None:
    settings = Settings()
    settings.worker = settings.worker.model_copy(update={"stall_s": 1.0})
    store = PageStore(*cast(Any, (None, None, None)))
    stalls = stall_detector_of(settings, Watchable(), store, lambda cause: None)
    assert stalls.limit_s("embed") > settings.embedder.embedder_timeout_s
    assert stalls.limit_s("store") > settings.milvus.milvus_timeout_s
    assert stalls.limit_s("render") > settings.render.render_timeout_s
    assert stalls.limit_s("fetch") == 1.0
