"""When a model is lost, and when it is tried again."""

from __future__ import annotations

import asyncio

import pytest

from ingestion.errors import WorkerFault
from tests.support.serving import HeldEmbedder, eventually
from workers.embedding.serving.model import MonitoredModel
from workers.embedding.serving.service_errors import ModelLost


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_a_lost_model_is_tried_again_after_a_pause() -> None:
    embedder, clock = HeldEmbedder(), Clock()
    model = MonitoredModel(embedder, clock)
    embedder.failure = WorkerFault("device lost")
    with pytest.raises(ModelLost, match="device lost"):
        await model.embed_queries(["pump"])
    calls = embedder.seen.total()
    embedder.failure = None
    with pytest.raises(ModelLost):
        await model.embed_queries(["pump"])
    assert embedder.seen.total() == calls
    clock.now += 6
    assert len(await model.embed_queries(["pump"])) == 1
    await model.check()


async def test_a_check_finds_a_model_that_broke_unseen_and_one_that_is_back() -> None:
    embedder, clock = HeldEmbedder(), Clock()
    model = MonitoredModel(embedder, clock)
    await model.check()
    embedder.failure = WorkerFault("closed")
    clock.now += 6
    with pytest.raises(ModelLost):
        await model.check()
    embedder.failure = None
    clock.now += 6
    await model.check()


async def test_a_model_at_work_or_lately_successful_is_not_tried() -> None:
    embedder, clock = HeldEmbedder(), Clock()
    model = MonitoredModel(embedder, clock)
    await model.embed_queries(["pump"])
    await model.check()
    clock.now += 6
    embedder.hold()
    working = asyncio.create_task(model.embed_queries(["valve"]))
    await eventually(lambda: embedder.waiting)
    await model.check()
    embedder.let_go()
    await working
    assert embedder.seen == {"pump": 1, "valve": 1}


async def test_calls_that_fail_together_share_one_trial() -> None:
    embedder = HeldEmbedder()
    model = MonitoredModel(embedder)
    embedder.hold()
    calls = [asyncio.create_task(model.embed_queries([f"pump {number}"])) for number in range(5)]
    await eventually(lambda: embedder.waiting == 5)
    embedder.failure = WorkerFault("device lost")
    embedder.let_go()
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(error) for error in found] == [ModelLost] * 5
    assert embedder.seen.total() == 5 + 1
