"""Progress and running totals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime


class MemoryProgress:
    """Progress. `tasks` and `totals` are open to tests."""

    def __init__(self) -> None:
        self.tasks: dict[str, dict[str, str]] = {}
        self.totals: Counter[str] = Counter()
        self.open_outages: dict[str, datetime] = {}

    async def report(self, document_id: str, *, status: str, message: str, processed: int, total: int) -> None:
        fields = {"status": status, "message": message, "processed": processed, "total": total}
        self.tasks[document_id] = {name: str(value) for name, value in fields.items()}

    async def read(self, document_id: str) -> dict[str, str]:
        return dict(self.tasks.get(document_id, {}))

    async def read_many(self, document_ids: Sequence[str]) -> list[dict[str, str]]:
        return [await self.read(id_) for id_ in document_ids]

    async def report_outages(self, since: Mapping[str, datetime]) -> None:
        self.open_outages.update(since)

    async def outages(self) -> dict[str, datetime]:
        return dict(self.open_outages)

    async def forget(self, document_id: str) -> None:
        self.tasks.pop(document_id, None)

    async def add(self, **amounts: int) -> None:
        self.totals.update(amounts)

    async def ping(self) -> None: ...
