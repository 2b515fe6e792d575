"""The errors that are retried within the same attempt."""

from __future__ import annotations

import pytest
import stamina

from ingestion.errors import EmbeddingFailed, IngestError, Stalled, WorkerFault
from ingestion.retrying import ATTEMPTS, retrying


@pytest.mark.parametrize(
    ("error", "calls"),
    [
        (WorkerFault("cut off"), ATTEMPTS),
        (EmbeddingFailed("page 3: the service has shown that other input is fine"), 1),
        (Stalled("its limit has passed"), 1),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_only_transient_errors_are_retried_within_an_attempt(error: IngestError, calls: int) -> None:
    made = 0

    async def call() -> None:
        nonlocal made
        made += 1
        raise error

    with stamina.set_testing(True, attempts=ATTEMPTS), pytest.raises(type(error)):
        await retrying(call)
    assert made == calls
