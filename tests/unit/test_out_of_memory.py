"""The batcher on a device whose memory is short."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import pytest

from ingestion.errors import DeviceMemoryExhausted
from tests.support.batched_models import NEVER_MS, FakeModel, Sheet, embedding, held, names, running, sheets
from workers.embedding.batching.stages import OutOfMemory


async def test_a_batch_that_does_not_fit_lowers_the_batch_size() -> None:
    model = FakeModel(capacity=450)
    async with running(model, batch_cost=1600, wait_ms=NEVER_MS) as batcher:
        assert names(await batcher.embed(sheets(64))) == list(range(64))
    assert sorted(model.computed) == list(range(64))
    assert [len(batch) for batch in model.refused] == [16, 8], "16 do not fit, nor 8; 4 do"
    assert model.emptied == len(model.refused)
    assert {len(batch) for batch in model.batches} == {4}


async def test_an_item_too_large_for_the_device_fails_alone() -> None:
    model = FakeModel(capacity=1000)
    async with running(model, batch_cost=8000, wait_ms=NEVER_MS) as batcher:
        with held(model.preparing):
            giant = embedding(batcher, [Sheet(99, cost=1100)])
            mates = embedding(batcher, sheets(5, cost=1000))
        with pytest.raises(DeviceMemoryExhausted, match="1100 patches"):
            await giant
        assert names(await mates) == [0, 1, 2, 3, 4]


async def test_the_cache_is_emptied_before_a_single_item_is_given_up() -> None:
    class Fragmented(FakeModel):
        def on_out_of_memory(self) -> None:
            self.capacity = 100

    async with running(Fragmented(capacity=50)) as batcher:
        assert names(await batcher.embed([Sheet(7)])) == [7]


async def test_the_cache_is_left_alone_while_memory_suffices() -> None:
    model = FakeModel()
    async with running(model, batch_cost=300) as batcher:
        await batcher.embed(sheets(50))
    assert model.emptied == 0


async def test_nothing_of_a_failed_forward_is_alive_when_the_cache_is_emptied() -> None:
    class Activations:
        """Something that can be referred to weakly."""

    class Leaky(FakeModel):
        def forward(self, batch: Sequence[Sheet]) -> list[Sheet]:
            activations = Activations()
            self.remembered = weakref.ref(activations)
            try:
                raise MemoryError(activations)
            except MemoryError as error:
                raise OutOfMemory from error

        def on_out_of_memory(self) -> None:
            self.alive = self.remembered() is not None

    model = Leaky()
    async with running(model) as batcher:
        with pytest.raises(DeviceMemoryExhausted):
            await batcher.embed([Sheet(1)])
    assert model.alive is False
