"""The one place where a request to a server is tried again. The client libraries below try once."""

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
"""After which no further try is begun. A server that was silent for so long is left to the breaker."""
BUDGET_S: Final = 1800.0
"""Of all tries together, where the caller has no budget. A file of gigabytes that makes progress takes longer than
RETRY_FOR_S; a silent server runs into the limit of its one request long before."""


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
    """`await call(...)`, again after a RetryableError, with jitter, for some seconds; then the error is raised.

    All tries together take no longer than the caller's budget, or BUDGET_S where there is none. Within a call that is
    tried again already this tries once: layers never multiply.
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
