"""A limiter that is fair between its callers."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext

WhileWaiting = Callable[[], AbstractContextManager[None]]
"""Returns a context manager that is entered for the time of a wait."""


class FairLimiter:
    """At most `slots` holders at a time. Waiting callers get free slots in rotation, one each.

    With first come, first served, ten requests of one caller would delay all other callers by ten.
    """

    def __init__(self, slots: int, *, while_waiting: WhileWaiting = nullcontext) -> None:
        self._free = slots
        self._while_waiting = while_waiting
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def slot(self, caller: str) -> AsyncIterator[None]:
        """Waits for a slot, and frees it after the block."""
        await self._take(caller)
        try:
            yield
        finally:
            self._give_back()

    async def _take(self, caller: str) -> None:
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(caller, deque()).append(turn)
        try:
            with self._while_waiting():
                await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it got the slot at the same moment
                self._give_back()
            elif caller in self._waiting:
                self._forget(caller, turn)
            raise

    def _forget(self, caller: str, turn: asyncio.Future[None]) -> None:
        line = self._waiting[caller]
        if turn in line:
            line.remove(turn)
        if not line:
            del self._waiting[caller]

    def _give_back(self) -> None:
        while self._waiting:
            caller, line = self._waiting.popitem(last=False)
            turn = line.popleft()
            if line:
                self._waiting[caller] = line  # at the end of the rotation
            if not turn.cancelled():
                turn.set_result(None)
                return
        self._free += 1
