"""The consumer group of the workers, as the broker sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class GroupSnapshot:
    """`members`: the names of the workers that are in the group. `lag`: by topic, the records without a commit."""

    members: Sequence[str]
    lag: Mapping[str, int]


class ConsumerGroup(Protocol):
    async def snapshot(self) -> GroupSnapshot:
        """Ask the broker. It takes a connection and a few requests: do not call it for each request of a client."""
