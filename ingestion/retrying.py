"""The one place where a request to a server is tried again. The client libraries below try once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, ParamSpec, TypeVar

import stamina

from ingestion.deadline import LEAST_S, budget, remaining_s
from ingestion.errors import RetryableError

P = ParamSpec("P")
R = TypeVar("R")

ATTEMPTS: Final = 4
RETRY_FOR_S: Final = 20.0
"""After which no further try is begun. A server that was silent for so long is left to the breaker."""
BUDGET_S: Final = 90.0
"""Of all tries together: a large request that makes progress may take longer than RETRY_FOR_S."""


async def retrying(call: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> R:
    """`await call(...)`, again after a RetryableError, with jitter, for some seconds; then the error is raised.

    All tries together take no longer than BUDGET_S, or what is left of the caller's budget.
    """
    with budget(BUDGET_S):
        left_s = remaining_s() or LEAST_S
        async for attempt in stamina.retry_context(
            on=RetryableError, attempts=ATTEMPTS, timeout=min(RETRY_FOR_S, left_s), wait_initial=0.2, wait_max=5.0
        ):
            with attempt:
                return await call(*args, **kwargs)
    raise AssertionError("stamina ended without a result or an error")
