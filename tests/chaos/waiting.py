"""Waiting for conditions on an event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

PAUSE_S = 0.05


async def until(condition: Callable[[], object], timeout_s: float, what: str) -> None:
    """Wait until `condition()` is true. Raises AssertionError, with `what`, after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not so within {timeout_s:g} s: {what}"
        await asyncio.sleep(PAUSE_S)


async def until_async(condition: Callable[[], Awaitable[object]], timeout_s: float, what: str) -> None:
    """Like `until`, for an asynchronous condition."""
    deadline = time.monotonic() + timeout_s
    while not await condition():
        assert time.monotonic() < deadline, f"not so within {timeout_s:g} s: {what}"
        await asyncio.sleep(4 * PAUSE_S)
