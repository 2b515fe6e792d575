"""Decides what follows a failed attempt, and when failures show that this worker is broken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from ingestion.errors import Fault, IngestError, PermanentError

_ONE_COLLECTION_FACTOR: Final = 3
"""So many times more documents must fail to halt a worker where all are of one collection."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again, not before `delay_s` from now."""

    delay_s: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Publish a dead letter. A person decides what to do."""


def decide(error: IngestError, attempt: int, *, delays_s: Sequence[int], max_attempts: int) -> Retry | GiveUp:
    """The decision after attempt number `attempt` (from 1) has ended in `error`.

    A permanent error would come again at every attempt. The last delay holds for all further attempts.
    """
    if isinstance(error, PermanentError) or attempt >= max_attempts:
        return GiveUp()
    return Retry(delays_s[min(attempt, len(delays_s)) - 1])


class FailureRun:
    """Notices that documents fail one after another because of this worker.

    One failed document may be unlucky. When `limit` different documents of several collections fail, and none becomes
    ready in between, the cause is this worker, its configuration or its release: going on would only move the whole
    topic to the dead letters. `on_limit` is then called once, with the cause.

    Errors of a file, a request, a record or a server do not count. An error of a collection counts once for each
    collection: one collection that is bound to another embedder is no fault of this worker, but many of them are.
    Documents of one collection may share a cause other than this worker, so they have to be _ONE_COLLECTION_FACTOR
    times as many.
    """

    def __init__(self, limit: int, on_limit: Callable[[str], None]) -> None:
        self._limit: Final = limit
        self._on_limit = on_limit
        self._failed: set[tuple[str, str]] = set()
        """(collection, document), or (collection, "") for an error of the collection."""
        self._is_over = False

    def failed(self, collection: str, document_id: str, error: IngestError) -> None:
        match error.fault:
            case Fault.WORKER | None:
                self._failed.add((collection, document_id))
            case Fault.COLLECTION:
                self._failed.add((collection, ""))
            case _:
                return
        are_of_one = len({failed for failed, _ in self._failed}) == 1
        if self._is_over or len(self._failed) < self._limit * (_ONE_COLLECTION_FACTOR if are_of_one else 1):
            return
        self._is_over = True
        self._on_limit(
            f"{len(self._failed)} documents in a row have failed, the last with {error.code}: {error.message}"
        )

    def succeeded(self) -> None:
        self._failed.clear()
        self._is_over = False
