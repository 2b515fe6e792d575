"""The flows of waiting documents."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from ingestion.model import Document, DocumentState, Flow
from tests.memory.state import MemoryPort


class MemoryFlows(MemoryPort):
    async def flows(self) -> Mapping[Flow, str]:
        return dict(self.state.flows)

    async def next_waiting(
        self, flow: Flow, limit: int, *, without_collections: Collection[str] = ()
    ) -> Sequence[Document]:
        def is_waiting(one: Document) -> bool:
            is_wanted = one.priority is not None and one.flow == flow and one.collection not in without_collections
            return is_wanted and one.state is DocumentState.QUEUED and one.lease_until_ms <= self.clock.now_ms

        return sorted(self._documents(is_waiting), key=lambda one: (one.lease_until_ms, one.first_page_key))[:limit]

    async def retire_flow(self, flow: Flow, mark: str) -> None:
        if self.state.flows.get(flow) == mark:
            del self.state.flows[flow]

    async def delivered(self, delivery: str, document_id: str) -> tuple[Document | None, Document | None]:
        begun = self._documents(lambda one: one.delivery == delivery)
        stored = self.state.documents.get(document_id)
        return (begun[0] if begun else None), (stored.document if stored else None)
