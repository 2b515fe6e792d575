"""Waiting for conditions on an event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

PAUSE_S = 0.05


async def until(condition: Callable[[], object], timeout_s: float, what: str) -> None:
    """Return once `condition()` is true; AssertionError where `what` is not so within `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not so within {timeout_s:g} s: {what}"
        await asyncio.sleep(PAUSE_S)


async def until_async(condition: Callable[[], Awaitable[object]], timeout_s: float, what: str) -> None:
    """As `until`, for a condition that has to be asked of a server."""
    deadline = time.monotonic() + timeout_s
    while not await condition():
        assert time.monotonic() < deadline, f"not so within {timeout_s:g} s: {what}"
        await asyncio.sleep(4 * PAUSE_S)
