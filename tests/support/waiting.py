"""Waiting for conditions; a test never sleeps for a fixed time and hopes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


def wait_until(condition: Callable[[], object], timeout_s: float) -> None:
    """Return once `condition()` is true; AssertionError where it is not within `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s"
        time.sleep(0.05)


async def wait_for(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
    """As `wait_until`, while the event loop goes on."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.02)
