"""Who may work beside whom."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager

from workers.attempt.isolation import SharedExclusiveLock

DEADLINE_S = 10.0


class Somebody:
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


async def test_many_share_the_room_and_one_alone_waits_for_all_and_keeps_others_out() -> None:
    lock = SharedExclusiveLock()
    async with asyncio.timeout(DEADLINE_S):
        first, second = Somebody(lock.shared()), Somebody(lock.shared())
        await asyncio.gather(first.inside.wait(), second.inside.wait())
        alone = Somebody(lock.exclusive())
        await settled()
        late = Somebody(lock.shared())
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


async def test_two_who_want_to_be_alone_take_turns() -> None:
    lock = SharedExclusiveLock()
    async with asyncio.timeout(DEADLINE_S):
        one, two = Somebody(lock.exclusive()), Somebody(lock.exclusive())
        await one.inside.wait()
        await settled()
        assert not two.inside.is_set()
        await one.leave()
        await two.inside.wait()
        await two.leave()


async def test_one_who_is_cancelled_while_waiting_to_be_alone_lets_others_in() -> None:
    lock = SharedExclusiveLock()
    async with asyncio.timeout(DEADLINE_S):
        first = Somebody(lock.shared())
        await first.inside.wait()
        alone = Somebody(lock.exclusive())
        await settled()
        alone.task.cancel()
        await asyncio.gather(alone.task, return_exceptions=True)
        late = Somebody(lock.shared())
        await late.inside.wait()
        await asyncio.gather(first.leave(), late.leave())
