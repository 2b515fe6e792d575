"""The flows of waiting documents, and what a record of the broker stands for."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from ingestion.model import Document, Flow


class Flows(Protocol):
    """Lets a worker choose which document is next. What it reads may be out of date: a claim decides."""

    async def flows(self) -> Mapping[Flow, str]:
        """The flows that may have waiting documents, each with a mark that its next job changes."""

    async def next_waiting(
        self, flow: Flow, limit: int, *, without_collections: Collection[str] = ()
    ) -> Sequence[Document]:
        """Documents of the flow that are queued and may be claimed now, the one that was uploaded first at first."""

    async def retire_flow(self, flow: Flow, mark: str) -> None:
        """Forget a flow without waiting documents. No effect where `flows` would return another mark by now."""

    async def delivered(self, delivery: str, document_id: str) -> tuple[Document | None, Document | None]:
        """The document that was last claimed under the record `delivery`, and the document `document_id`."""
