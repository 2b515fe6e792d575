"""One time budget for all requests that are made for one caller.

A caller sets how long all servers together may take. Adapters give each request the rest of that, at most their own
limit, so retries and consecutive requests never take longer than the caller waits. The budget is a context variable:
it travels with the task, and into the threads that it starts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Final

from ingestion.errors import DependencyUnavailable

LEAST_S: Final = 0.05
"""With less time left than this, no request is sent."""

_ends_at: ContextVar[float | None] = ContextVar("ends_at", default=None)


@contextmanager
def budget(seconds: float) -> Iterator[None]:
    """Requests to servers inside the block may take `seconds` together, or less where an outer budget has less."""
    outer = _ends_at.get()
    own = time.monotonic() + seconds
    token = _ends_at.set(own if outer is None else min(own, outer))
    try:
        yield
    finally:
        _ends_at.reset(token)


def remaining_s() -> float | None:
    """The rest of the budget, 0 where it is used up; None where there is no budget."""
    ends_at = _ends_at.get()
    return None if ends_at is None else max(0.0, ends_at - time.monotonic())


def is_spent() -> bool:
    """Whether too little of the budget is left to ask a server anything."""
    left_s = remaining_s()
    return left_s is not None and left_s < LEAST_S


@asynccontextmanager
async def within_budget(dependency: str) -> AsyncIterator[None]:
    """Cancels the block when the budget ends, and raises DependencyUnavailable then.

    For waiting that has no limit of its own, as for a turn at `dependency`.
    """
    timer = asyncio.timeout(remaining_s())
    try:
        async with timer:
            yield
    except TimeoutError as error:
        if not timer.expired():
            raise
        raise DependencyUnavailable(dependency, "it did not answer within the time for it") from error


def limit_s(dependency: str, most_s: float) -> float:
    """How long one request to `dependency` may take: `most_s`, or what is left of the budget.

    Raises DependencyUnavailable where less than LEAST_S is left.
    """
    left_s = remaining_s()
    if left_s is None:
        return most_s
    if left_s < LEAST_S:
        raise DependencyUnavailable(dependency, "no time is left to ask it")
    return min(most_s, left_s)
