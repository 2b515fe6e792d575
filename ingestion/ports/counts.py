"""Totals of documents, for metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from ingestion.model import DocumentState


class DocumentCounts(Protocol):
    async def count_by_state(self) -> Mapping[DocumentState, int]:
        """Return the number of documents in each state that occurs, also in states that this release does not know.

        A document without a readable state is not counted.
        """

    async def oldest_unfinished_s(self) -> Mapping[DocumentState, float]:
        """Return the age of the oldest document in each unfinished state that occurs.

        The age counts from the upload, or from the last replay, by the database's clock. A document without a readable
        time does not count.
        """
