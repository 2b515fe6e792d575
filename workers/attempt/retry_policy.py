"""What becomes of a document whose attempt has failed, and when failures say more about us than about documents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from ingestion.errors import Fault, IngestError, PermanentError

_ALONE: Final = 3
"""How many times more documents it takes to halt a worker where all are of one collection."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again, not before `delay_s` from now."""

    delay_s: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Write a dead letter, and let a person decide."""


def decide(error: IngestError, attempt: int, *, delays_s: Sequence[int], max_attempts: int) -> Retry | GiveUp:
    """After attempt number `attempt` (from 1) has ended in `error`.

    A permanent error would come again at every attempt. Of the delays the last one holds for all further attempts.
    """
    if isinstance(error, PermanentError) or attempt >= max_attempts:
        return GiveUp()
    return Retry(delays_s[min(attempt, len(delays_s)) - 1])


class FailureRun:
    """Notices when documents fail one after another for reasons that lie in this worker.

    One such document may be unlucky. When `limit` different ones of several collections fail and none gets ready in
    between, it is this worker, its configuration or its release: to go on would only carry the whole topic over to the
    dead letters. `on_limit` is then told the cause, once.

    What lies in a file, a request, a record or a server does not count. What lies in a collection counts once for
    each: a collection that is bound to another embedder is no fault of this worker, and many of them are. Documents of
    one collection alone may have more in common than this worker: it takes _ALONE times as many of them.
    """

    def __init__(self, limit: int, on_limit: Callable[[str], None]) -> None:
        self._limit: Final = limit
        self._on_limit = on_limit
        self._failed: set[tuple[str, str]] = set()
        """(collection, document), or (collection, "") for what lies in the collection."""
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
        if self._is_over or len(self._failed) < self._limit * (_ALONE if are_of_one else 1):
            return
        self._is_over = True
        self._on_limit(
            f"{len(self._failed)} documents in a row have failed, the last with {error.code}: {error.message}"
        )

    def succeeded(self) -> None:
        self._failed.clear()
        self._is_over = False
