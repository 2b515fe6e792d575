"""Retries a request to a server. Client libraries retry nothing, so that retries never multiply."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, ParamSpec, TypeVar

import stamina

from ingestion.concurrency.deadline import LEAST_S, budget, remaining_s
from ingestion.errors import RetryableError

P = ParamSpec("P")
R = TypeVar("R")

ATTEMPTS: Final = 4
RETRY_FOR_S: Final = 20.0
"""No further try begins after this time. The breaker waits for a server that was silent for so long."""
BUDGET_S: Final = 1800.0
"""For all tries together, where the caller has no budget. A file of gigabytes takes longer than RETRY_FOR_S. A silent
server runs into the limit of one request long before."""

_is_within: ContextVar[bool] = ContextVar("is_within", default=False)


@contextmanager
def _within() -> Iterator[None]:
    token = _is_within.set(True)
    try:
        yield
    finally:
        _is_within.reset(token)


def _may_work_soon(error: Exception) -> bool:
    return isinstance(error, RetryableError) and error.may_work_soon


async def retrying(call: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> R:
    """Await `call(...)`. After a RetryableError, try again for some seconds, with jitter; then raise the error.

    All tries together take no longer than the caller's budget, or BUDGET_S where there is none. Inside another
    `retrying` it tries once, so that retries of layers never multiply.
    """
    if _is_within.get():
        return await call(*args, **kwargs)
    left_s = remaining_s()
    with budget(BUDGET_S if left_s is None else left_s), _within():
        left_s = max(LEAST_S, remaining_s() or 0.0)
        async for attempt in stamina.retry_context(
            on=_may_work_soon, attempts=ATTEMPTS, timeout=min(RETRY_FOR_S, left_s), wait_initial=0.2, wait_max=5.0
        ):
            with attempt:
                return await call(*args, **kwargs)
    raise AssertionError("stamina ended without a result or an error")
