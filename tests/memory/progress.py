"""Progress and running totals."""

from __future__ import annotations

from collections import Counter


class MemoryProgress:
    """Progress. `tasks` and `totals` are open to tests."""

    def __init__(self) -> None:
        self.tasks: dict[str, dict[str, str]] = {}
        self.totals: Counter[str] = Counter()

    async def report(self, document_id: str, *, status: str, message: str, processed: int, total: int) -> None:
        fields = {"status": status, "message": message, "processed": processed, "total": total}
        self.tasks[document_id] = {name: str(value) for name, value in fields.items()}

    async def read(self, document_id: str) -> dict[str, str]:
        return dict(self.tasks.get(document_id, {}))

    async def forget(self, document_id: str) -> None:
        self.tasks.pop(document_id, None)

    async def add(self, **amounts: int) -> None:
        self.totals.update(amounts)

    async def ping(self) -> None: ...
