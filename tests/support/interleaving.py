"""Two concurrent operations as steps, so that a test can try every order of the steps."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

DEADLINE_S: Final = 30.0

Step = Callable[[], Awaitable[None]]


class Gate:
    """A point where one operation waits, so that others can act meanwhile."""

    def __init__(self) -> None:
        self._reached, self._opened = asyncio.Event(), asyncio.Event()

    async def pass_through(self) -> None:
        self._reached.set()
        await self._opened.wait()

    def open(self) -> None:
        self._opened.set()

    async def reached_by(self, task: asyncio.Task[Any]) -> None:
        """Return once the task stands before the gate, or has ended without coming to it."""
        waiting = asyncio.create_task(self._reached.wait())
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()


class Through:
    """An adapter with a gate before one of its methods."""

    def __init__(self, adapter: Any, method: str, gate: Gate) -> None:
        self._adapter, self._method, self._gate = adapter, method, gate

    def __getattr__(self, name: str) -> Any:
        original = getattr(self._adapter, name)
        if name != self._method:
            return original

        async def gated(*args: Any, **kwargs: Any) -> Any:
            await self._gate.pass_through()
            return await original(*args, **kwargs)

        return gated


def orders(one: int, other: int) -> list[tuple[int, ...]]:
    """Every order of so many steps of one and so many of the other: the places that the first one's steps take."""
    return list(itertools.combinations(range(one + other), one))


async def run_in_order(order: Sequence[int], one: Sequence[Step], other: Sequence[Step], check: Step) -> None:
    """All steps, with a check after each of the other's, and after the last."""
    first, second = iter(one), iter(other)
    for place in range(len(one) + len(other)):
        await next(first if place in order else second)()
        if place not in order:
            await check()
    await check()
