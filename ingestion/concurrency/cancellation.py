"""Cancellations that a library raises without one, or swallows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


def is_stray_cancellation() -> bool:
    """Whether a CancelledError that was just caught comes from a library, not from a `cancel` of this task."""
    task = asyncio.current_task()
    return task is not None and not task.cancelling()


@contextmanager
def swallowed_cancellation_raised() -> Iterator[None]:
    """Raises CancelledError where this task was cancelled during the block, and the block returned or raised an error.

    `asyncio.wait_for` of Python 3.11 returns its result, and forgets the cancellation, where both come at once. A task
    that was cancelled would go on for ever then.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task is not None else 0
    try:
        yield
    finally:
        if task is not None and task.cancelling() > before:
            raise asyncio.CancelledError
