"""Shared and exclusive holders of a lock."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager

from workers.attempt.isolation import SharedExclusiveLock

DEADLINE_S = 10.0


class Holder:
    def __init__(self, place: AbstractAsyncContextManager[None]) -> None:
        self.inside = asyncio.Event()
        self.go = asyncio.Event()
        self.task = asyncio.create_task(self._stay(place))

    async def _stay(self, place: AbstractAsyncContextManager[None]) -> None:
        async with place:
            self.inside.set()
            await self.go.wait()

    async def leave(self) -> None:
        self.go.set()
        await self.task


async def settled() -> None:
    """Let every task go as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_an_exclusive_holder_waits_for_all_shared_ones_and_keeps_later_ones_out() -> None:
    lock = SharedExclusiveLock()
    async with asyncio.timeout(DEADLINE_S):
        first, second = Holder(lock.shared()), Holder(lock.shared())
        await asyncio.gather(first.inside.wait(), second.inside.wait())
        alone = Holder(lock.exclusive())
        await settled()
        late = Holder(lock.shared())
        await first.leave()
        await settled()
        assert not alone.inside.is_set()
        assert not late.inside.is_set(), "else one alone might wait for ever"
        await second.leave()
        await alone.inside.wait()
        await settled()
        assert not late.inside.is_set()
        await alone.leave()
        await late.inside.wait()
        await late.leave()


async def test_two_exclusive_holders_take_turns() -> None:
    lock = SharedExclusiveLock()
    async with asyncio.timeout(DEADLINE_S):
        one, two = Holder(lock.exclusive()), Holder(lock.exclusive())
        await one.inside.wait()
        await settled()
        assert not two.inside.is_set()
        await one.leave()
        await two.inside.wait()
        await two.leave()


async def test_an_exclusive_holder_that_is_cancelled_while_waiting_lets_others_in() -> None:
    lock = SharedExclusiveLock()
    async with asyncio.timeout(DEADLINE_S):
        first = Holder(lock.shared())
        await first.inside.wait()
        alone = Holder(lock.exclusive())
        await settled()
        alone.task.cancel()
        await asyncio.gather(alone.task, return_exceptions=True)
        late = Holder(lock.shared())
        await late.inside.wait()
        await asyncio.gather(first.leave(), late.leave())
