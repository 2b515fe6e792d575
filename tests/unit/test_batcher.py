"""The batcher, with a model whose steps the test delays or fails."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion.errors import BadRequest, WorkerFault
from ingestion.model import Vectors
from tests.support.batched_models import (
    NEVER_MS,
    SOON_S,
    FakeModel,
    Sheet,
    embedding,
    held,
    names,
    running,
    sheets,
    until,
    vectors_of,
)
from tests.support.waiting import wait_until
from workers.embedding.batching.grouping import URGENT_IN_A_ROW


async def test_callers_share_batches_and_each_gets_its_own_in_order() -> None:
    model = FakeModel()
    async with running(model) as batcher:
        with held(model.forwarding):
            first = embedding(batcher, [Sheet(0)])
            await until(lambda: model.forwarding.entered)
            others = [embedding(batcher, sheets(3, first=start)) for start in (10, 20, 30)]
            await until(lambda: len(model.prepared) == 10)
        assert names(await first) == [0]
        assert [names(await other) for other in others] == [[10, 11, 12], [20, 21, 22], [30, 31, 32]]
    assert [len(batch) for batch in model.batches] == [1, 9]


async def test_nothing_in_nothing_out() -> None:
    async with running(FakeModel()) as batcher:
        assert await batcher.embed([]) == []


@settings(max_examples=30, deadline=None)
@given(
    calls=st.lists(st.lists(st.integers(1, 900), min_size=1, max_size=12), min_size=1, max_size=6),
    batch_cost=st.integers(50, 4000),
    capacity=st.integers(900, 4000),
    forward_threads=st.integers(1, 3),
)
def test_every_caller_gets_its_own_vectors_for_all_sizes(
    calls: list[list[int]], batch_cost: int, capacity: int, forward_threads: int
) -> None:
    async def run() -> None:
        model = FakeModel(capacity)
        names_left = iter(range(1000))
        handed_in = [[Sheet(next(names_left), cost) for cost in call] for call in calls]
        async with running(model, batch_cost, forward_threads=forward_threads) as batcher:
            found = await asyncio.gather(
                *(batcher.embed(call, urgent=number % 2 == 1) for number, call in enumerate(handed_in))
            )
        assert [names(vectors) for vectors in found] == [[sheet.name for sheet in call] for call in handed_in]
        assert sorted(model.computed) == list(range(sum(map(len, calls)))), "each once"

    asyncio.run(run())


async def test_a_lone_page_does_not_wait_for_company() -> None:
    async with running(FakeModel(), wait_ms=NEVER_MS) as batcher:
        async with asyncio.timeout(SOON_S):
            await batcher.embed([Sheet(1)])


async def test_an_idle_device_waits_a_little_for_what_is_being_prepared() -> None:
    class SlowAfterTheFirst(FakeModel):
        def prepare(self, item: Sheet) -> Sheet:
            if item.name:
                return super().prepare(item)
            self.prepared.append(item.name)
            return item

    model = SlowAfterTheFirst()
    async with running(model, batch_cost=400, wait_ms=NEVER_MS) as batcher:
        with held(model.preparing):
            task = embedding(batcher, sheets(4))
            await until(lambda: model.prepared == [0] and model.preparing.entered)
            await asyncio.sleep(0.05)  # in which the device could have begun
        await task
    assert [len(batch) for batch in model.batches] == [4]


async def test_a_batch_waits_no_longer_than_its_limit() -> None:
    model = FakeModel()
    async with running(model, wait_ms=20) as batcher:
        early = embedding(batcher, [Sheet(1)])
        await until(lambda: model.prepared)
        with held(model.preparing):
            late = embedding(batcher, sheets(4, first=2))
            await early
        await late


async def test_the_device_goes_on_while_the_event_loop_is_busy() -> None:
    model = FakeModel()
    async with running(model, batch_cost=200) as batcher:
        model.forwarding.hold()
        task = embedding(batcher, sheets(10))
        await until(lambda: len(model.prepared) >= 6)
        model.forwarding.let_go()
        wait_until(lambda: len(model.computed) == 10, SOON_S)  # on the event loop's thread
        assert not task.done()
        await task


async def test_the_three_steps_overlap() -> None:
    model = FakeModel()
    async with running(model, batch_cost=100) as batcher:
        with held(model.finishing):
            tasks = [embedding(batcher, [sheet]) for sheet in sheets(2)]
            await until(lambda: model.finishing.entered == 1 and len(model.batches) == 2)
            with held(model.forwarding):
                tasks += [embedding(batcher, [sheet]) for sheet in sheets(3, first=2)]
                await until(lambda: model.forwarding.entered == 3 and len(model.prepared) == 5)
        assert names([(await task)[0] for task in tasks]) == [0, 1, 2, 3, 4]


async def test_no_more_is_prepared_than_a_few_batches() -> None:
    model = FakeModel()
    async with running(model, batch_cost=1000) as batcher:
        with held(model.forwarding):
            task = embedding(batcher, sheets(500))
            await until(lambda: len(model.prepared) >= 30)
            await asyncio.sleep(0.1)  # long enough for hundreds more
            assert len(model.prepared) <= 10 + 30 + 8, "one batch on the device, three that wait, one item a thread"
        assert names(await task) == list(range(500))


async def test_a_page_of_another_caller_does_not_wait_for_a_long_document() -> None:
    model = FakeModel()
    async with running(model, batch_cost=1000) as batcher:
        with held(model.forwarding):
            long = embedding(batcher, sheets(2000))
            await until(lambda: len(model.prepared) >= 30)
            short = embedding(batcher, [Sheet(9999)])
            await asyncio.sleep(0)  # it stands in line before the device goes on
        assert names(await short) == [9999]
        assert model.computed.index(9999) < 100
        await long


async def test_urgent_items_go_first_in_a_batch_of_their_own() -> None:
    model = FakeModel()
    async with running(model) as batcher:
        with held(model.forwarding):
            documents = embedding(batcher, sheets(200))
            await until(lambda: len(model.prepared) >= 30)  # no more of them is prepared
            queries = [embedding(batcher, [Sheet(900 + number, 20)], urgent=True) for number in range(5)]
            await until(lambda: {900, 901, 902, 903, 904} <= set(model.prepared))
        assert [names(await query) for query in queries] == [[900], [901], [902], [903], [904]]
        assert names(await documents) == list(range(200))
    urgent = [sorted(sheet.name for sheet in batch) for batch in model.batches if batch[0].name >= 900]
    assert urgent == [[900, 901, 902, 903, 904]], "together, and with no page"
    assert model.batches[1][0].name >= 900, "first of all that waited"


async def test_a_steady_stream_of_urgent_items_does_not_starve_the_rest() -> None:
    model = FakeModel()
    async with running(model, batch_cost=100) as batcher:
        with held(model.forwarding):
            document = embedding(batcher, sheets(3))
            queries = [embedding(batcher, [sheet], urgent=True) for sheet in sheets(60, first=100)]
            await until(lambda: model.forwarding.entered)
        assert names(await document) == [0, 1, 2]
        await asyncio.gather(*queries)
    turns = [place for place, name in enumerate(model.computed) if name < 100]
    assert all(later - earlier <= URGENT_IN_A_ROW + 1 for earlier, later in pairwise([-1, *turns]))


@pytest.mark.parametrize("urgent", [False, True])
async def test_several_devices_compute_side_by_side(urgent: bool) -> None:
    model = FakeModel()
    async with running(model, batch_cost=100, forward_threads=3) as batcher:
        with held(model.forwarding):
            task = embedding(batcher, sheets(9), urgent=urgent)
            await until(lambda: model.forwarding.entered == 3)
        assert names(await task) == list(range(9))
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("embed-")] == []


async def test_a_broken_device_of_several_leaves_no_waiting_caller_and_no_thread() -> None:
    model = FakeModel()
    async with running(model, batch_cost=100, forward_threads=3) as batcher:
        bad = embedding(batcher, [Sheet(1, raises={"forward": SystemExit("driver gone")}), *sheets(40, first=2)])
        others = [embedding(batcher, sheets(40, first=100 * number)) for number in range(1, 4)]
        with pytest.raises(WorkerFault, match="driver gone"):
            await bad
        for result in await asyncio.gather(*others, return_exceptions=True):
            assert isinstance(result, list | WorkerFault)
        await until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("embed-")])


async def test_an_item_that_cannot_be_prepared_fails_its_caller_alone() -> None:
    model = FakeModel()
    async with running(model) as batcher:
        with held(model.preparing):
            good = embedding(batcher, sheets(3))
            bad = embedding(batcher, [Sheet(10), Sheet(11, raises={"prepare": ZeroDivisionError("no pixels")})])
            await until(lambda: model.preparing.entered)
        assert names(await good) == [0, 1, 2]
        with pytest.raises(WorkerFault, match="ZeroDivisionError: no pixels") as failure:
            await bad
    assert failure.value.stage == "embed"
    assert isinstance(failure.value.__cause__, ZeroDivisionError)


async def test_an_error_of_ours_comes_as_it_is() -> None:
    async with running(FakeModel()) as batcher:
        with pytest.raises(BadRequest, match="blank") as failure:
            await batcher.embed([Sheet(1, raises={"prepare": BadRequest("blank")})])
    assert failure.value.stage == "embed"


@pytest.mark.parametrize("step", ["forward", "finish"])
async def test_an_error_of_a_batch_reaches_exactly_its_callers(step: str) -> None:
    model = FakeModel()
    async with running(model) as batcher:
        with held(model.forwarding):
            before = embedding(batcher, [Sheet(0)])
            await until(lambda: model.forwarding.entered)
            mates = embedding(batcher, sheets(2, first=1))
            bad = embedding(batcher, [Sheet(3, raises={step: RuntimeError("device-side assert")})])
            await until(lambda: len(model.prepared) == 4)
        assert names(await before) == [0]
        for task in (mates, bad):
            with pytest.raises(WorkerFault, match="device-side assert"):
                await task
        assert names(await batcher.embed([Sheet(5)])) == [5]


async def test_too_few_vectors_are_an_error_and_not_a_wait_without_end() -> None:
    class Forgetful(FakeModel):
        def finish(self, raw: list[Sheet], batch: Sequence[Sheet]) -> list[Vectors]:
            return [vectors_of(sheet) for sheet in raw[1:]]

    async with running(Forgetful()) as batcher:
        with pytest.raises(WorkerFault):
            await batcher.embed(sheets(3))


async def test_a_cancelled_caller_s_items_do_not_reach_the_device() -> None:
    model = FakeModel()
    async with running(model) as batcher:
        with held(model.forwarding):
            first = embedding(batcher, [Sheet(0)])
            await until(lambda: model.forwarding.entered)
            gone = embedding(batcher, sheets(100, first=100))
            stays = embedding(batcher, sheets(3, first=10))
            await until(lambda: len(model.prepared) >= 20)
            gone.cancel()
            with pytest.raises(asyncio.CancelledError):
                await gone
        assert names(await first) == [0]
        assert names(await stays) == [10, 11, 12]
    assert sorted(model.computed) == [0, 10, 11, 12]


async def test_closing_fails_all_waiting_callers_and_ends_the_threads() -> None:
    model = FakeModel()
    async with running(model) as batcher:
        with held(model.forwarding):
            tasks = [embedding(batcher, sheets(5, first=10 * start)) for start in range(4)]
            await until(lambda: model.forwarding.entered)
            closing = asyncio.create_task(batcher.close())
            for task in tasks:
                with pytest.raises(WorkerFault, match="closed"):
                    await task
        await closing
        with pytest.raises(WorkerFault, match="closed"):
            await batcher.embed([Sheet(1)])
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("embed-")] == []


async def test_a_broken_thread_leaves_no_waiting_caller() -> None:
    async with running(FakeModel()) as batcher:
        with pytest.raises(WorkerFault, match="SystemExit: driver gone"):
            await batcher.embed([Sheet(1, raises={"forward": SystemExit("driver gone")})])
        with pytest.raises(WorkerFault, match="the embedder failed: SystemExit: driver gone"):
            await batcher.embed([Sheet(2)])
