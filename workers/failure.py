"""What becomes of a document whose attempt has failed, and when failures say more about us than about documents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from ingestion.errors import FileError, IngestError, PermanentError


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
    """Notices when documents fail one after another for reasons that are not in the file.

    One such document may be unlucky. When `limit` different ones fail and none gets ready in between, it is this
    worker, its configuration or its release: to go on would only carry the whole topic over to the dead letters.
    `on_limit` is then told the cause, once.
    """

    def __init__(self, limit: int, on_limit: Callable[[str], None]) -> None:
        self._limit: Final = limit
        self._on_limit = on_limit
        self._failed: set[str] = set()

    def failed(self, document_id: str, error: IngestError) -> None:
        if isinstance(error, FileError) or document_id in self._failed:
            return
        self._failed.add(document_id)
        if len(self._failed) == self._limit:
            self._on_limit(
                f"{self._limit} documents in a row have failed, the last with {error.code}: {error.message}"
            )

    def succeeded(self) -> None:
        self._failed.clear()
