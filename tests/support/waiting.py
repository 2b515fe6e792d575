"""Wait for a condition with a deadline, in place of a fixed sleep."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


def wait_until(condition: Callable[[], object], timeout_s: float) -> None:
    """Wait until `condition()` is true. Raises AssertionError after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s"
        time.sleep(0.05)


async def wait_for(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
    """Like `wait_until`, without blocking the event loop."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.02)


async def settled() -> None:
    """Let the tasks that can run do so, for a few turns of the event loop."""
    for _ in range(10):
        await asyncio.sleep(0)
