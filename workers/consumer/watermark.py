"""Which offsets may be committed: for each partition, everything before the oldest unfinished record.

Jobs of a partition finish in any order, but a commit says "everything before this offset is done". A partition that is
revoked and assigned again begins a new epoch. A record of the old epoch that finishes late says nothing about the new
one, so it is dropped.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from ingestion.messages import Partition


@dataclass(frozen=True, slots=True)
class TrackedOffset:
    """The offset of an unfinished record, in one assignment of its partition."""

    partition: Partition
    offset: int
    epoch: int


@dataclass(slots=True)
class _Assignment:
    epoch: int
    unfinished: dict[int, float] = field(default_factory=dict)
    """The offset of each unfinished record, with the monotonic time at which it was read; ascending."""
    next_offset: int | None = None
    committed: int | None = None
    """The watermark that the broker has; before the first commit, the first offset that was read."""

    @property
    def watermark(self) -> int | None:
        return min(self.unfinished, default=self.next_offset)


class Watermarks:
    """The low watermarks of the partitions that are assigned to this consumer. Not thread-safe."""

    def __init__(self) -> None:
        self._held: dict[Partition, _Assignment] = {}
        self._epoch = 0

    def assign(self, partitions: Iterable[Partition]) -> None:
        """Begin a new epoch for each of `partitions`."""
        self._epoch += 1
        for partition in partitions:
            self._held[partition] = _Assignment(self._epoch)

    def revoke(self, partitions: Iterable[Partition]) -> None:
        """Forget `partitions`; a record of theirs that finishes later is ignored."""
        for partition in partitions:
            self._held.pop(partition, None)

    def begin(self, partition: Partition, offset: int) -> TrackedOffset:
        """Track a fetched record as unfinished.

        The offsets of a partition have to ascend; gaps are allowed. Raises KeyError for a partition that is not
        assigned, ValueError for an offset that does not ascend.
        """
        held = self._held[partition]
        if held.next_offset is not None and offset < held.next_offset:
            raise ValueError(f"offset {offset} of {partition} was read after {held.next_offset - 1}")
        if held.committed is None:
            held.committed = offset
        held.unfinished[offset] = time.monotonic()
        held.next_offset = offset + 1
        return TrackedOffset(partition, offset, held.epoch)

    def finish(self, tracked: TrackedOffset) -> bool:
        """The record needs no more work. Returns False, with no effect, where its assignment has ended."""
        held = self._held.get(tracked.partition)
        if held is None or held.epoch != tracked.epoch or tracked.offset not in held.unfinished:
            return False
        del held.unfinished[tracked.offset]
        return True

    def committable(self) -> dict[Partition, int]:
        """The watermarks that have moved since the last `committed`."""
        return {
            partition: held.watermark
            for partition, held in self._held.items()
            if held.watermark is not None and held.watermark != held.committed
        }

    def committed(self, offsets: dict[Partition, int]) -> None:
        """The broker has acknowledged these offsets."""
        for partition, offset in offsets.items():
            if partition in self._held:
                self._held[partition].committed = offset

    def position(self, partition: Partition) -> int | None:
        """The low watermark, None before the first record of this assignment."""
        held = self._held.get(partition)
        return held.watermark if held else None

    def age_s(self, partition: Partition) -> float:
        """The time since the oldest unfinished record was read. 0 where none is unfinished."""
        held = self._held.get(partition)
        if held is None or not held.unfinished:
            return 0.0
        return time.monotonic() - next(iter(held.unfinished.values()))

    def ahead(self, partition: Partition) -> int:
        """How many offsets have been read beyond the low watermark; 0 for a partition that is not assigned."""
        held = self._held.get(partition)
        if held is None or held.next_offset is None or held.watermark is None:
            return 0
        return held.next_offset - held.watermark

    def holds(self, partition: Partition) -> bool:
        return partition in self._held

    def is_current(self, tracked: TrackedOffset) -> bool:
        """Whether the assignment in which the offset was tracked still lasts."""
        held = self._held.get(tracked.partition)
        return held is not None and held.epoch == tracked.epoch
