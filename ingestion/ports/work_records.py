"""What is processed now, and what was finished a moment ago."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from ingestion.model import Document, DocumentState


@dataclass(frozen=True, slots=True)
class FinishedMinute:
    """The documents that entered `state` in the minute that begins at `at`, and their pages."""

    at: datetime
    state: DocumentState
    documents: int
    pages: int


class WorkRecords(Protocol):
    async def in_work(self, limit: int, *, tenant: str | None = None) -> list[Document]:
        """Documents of one tenant, or of all, that a worker holds now, without their histories.

        The one that changed last comes first.
        """

    async def finished(self, minutes: int, limit: int, *, tenant: str | None = None) -> Sequence[FinishedMinute]:
        """Documents of one tenant, or of all, that became ready or failed in the last minutes, oldest minute first.

        It reads the records of the last `limit` documents of all tenants, and counts no others.
        """
