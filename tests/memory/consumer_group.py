"""The workers' consumer group. `members` and `lag` are open to tests."""

from __future__ import annotations

from ingestion.ports import GroupSnapshot


class MemoryConsumerGroup:
    def __init__(self) -> None:
        self.members: list[str] = []
        self.lag: dict[str, int] = {}
        self.snapshots = 0

    async def snapshot(self) -> GroupSnapshot:
        self.snapshots += 1
        return GroupSnapshot(list(self.members), dict(self.lag))
