"""Which offsets may be committed: for each partition, everything before the oldest unfinished record.

Jobs of a partition finish in any order, yet a commit says "all before this offset is done". A partition that was
taken away and came back is a new assignment with a new epoch: what finishes late from the old one says nothing
about the new one and is dropped.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ingestion.messages import Partition


@dataclass(frozen=True, slots=True)
class TrackedOffset:
    """One record that is being worked on, in one assignment of its partition."""

    partition: Partition
    offset: int
    epoch: int


@dataclass(slots=True)
class _Assignment:
    epoch: int
    unfinished: set[int] = field(default_factory=set)
    next_offset: int | None = None
    committed: int | None = None
    """The watermark that the broker has; before the first commit, the offset that reading began at."""

    @property
    def watermark(self) -> int | None:
        return min(self.unfinished, default=self.next_offset)


class Watermarks:
    """Low watermarks of the partitions that this consumer holds. Not thread-safe."""

    def __init__(self) -> None:
        self._held: dict[Partition, _Assignment] = {}
        self._epoch = 0

    def assign(self, partitions: Iterable[Partition]) -> None:
        """Begin a new epoch for each of `partitions`."""
        self._epoch += 1
        for partition in partitions:
            self._held[partition] = _Assignment(self._epoch)

    def revoke(self, partitions: Iterable[Partition]) -> None:
        """Forget `partitions`; completions of their records are dropped from now on."""
        for partition in partitions:
            self._held.pop(partition, None)

    def begin(self, partition: Partition, offset: int) -> TrackedOffset:
        """Note a fetched record as unfinished.

        Offsets of a partition come in ascending order, not necessarily without gaps. Raises KeyError for a
        partition that is not held, ValueError for an offset that does not ascend.
        """
        held = self._held[partition]
        if held.next_offset is not None and offset < held.next_offset:
            raise ValueError(f"offset {offset} of {partition} comes after {held.next_offset - 1}")
        if held.committed is None:
            held.committed = offset
        held.unfinished.add(offset)
        held.next_offset = offset + 1
        return TrackedOffset(partition, offset, held.epoch)

    def finish(self, tracked: TrackedOffset) -> bool:
        """The record needs no more work. False, and no effect, where its assignment is over."""
        held = self._held.get(tracked.partition)
        if held is None or held.epoch != tracked.epoch or tracked.offset not in held.unfinished:
            return False
        held.unfinished.remove(tracked.offset)
        return True

    def committable(self) -> dict[Partition, int]:
        """The offsets that have moved since the last `committed`."""
        return {
            partition: held.watermark
            for partition, held in self._held.items()
            if held.watermark is not None and held.watermark != held.committed
        }

    def committed(self, offsets: dict[Partition, int]) -> None:
        """The broker has acknowledged these."""
        for partition, offset in offsets.items():
            if partition in self._held:
                self._held[partition].committed = offset

    def position(self, partition: Partition) -> int | None:
        """The low watermark, None before the first record of this assignment."""
        held = self._held.get(partition)
        return held.watermark if held else None

    def ahead(self, partition: Partition) -> int:
        """How far reading has got beyond the low watermark, 0 for a partition that is not held."""
        held = self._held.get(partition)
        if held is None or held.next_offset is None or held.watermark is None:
            return 0
        return held.next_offset - held.watermark

    def holds(self, partition: Partition) -> bool:
        return partition in self._held

    def is_current(self, tracked: TrackedOffset) -> bool:
        """Whether the assignment in which the offset was tracked is still this consumer's."""
        held = self._held.get(tracked.partition)
        return held is not None and held.epoch == tracked.epoch
