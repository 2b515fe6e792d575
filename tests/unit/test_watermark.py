"""Watermarks as a state machine against a model that remembers everything."""

from __future__ import annotations

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from workers.consumer.watermark import TrackedOffset, Watermarks

PARTITIONS = [("jobs", 0), ("jobs", 1), ("jobs", 2)]


class WatermarkMachine(RuleBasedStateMachine):
    """The model keeps all started and all finished offsets of each assignment."""

    tracked_offsets = Bundle("tracked_offsets")

    def __init__(self) -> None:
        super().__init__()
        self.watermarks = Watermarks()
        self.held: dict[tuple[str, int], int] = {}
        self.begun: dict[int, dict[tuple[str, int], list[int]]] = {}
        self.finished: set[TrackedOffset] = set()
        self.committed: dict[tuple[str, int], int] = {}
        self.epoch = 0

    @rule(partitions=st.sets(st.sampled_from(PARTITIONS), min_size=1))
    def assign(self, partitions: set[tuple[str, int]]) -> None:
        self.epoch += 1
        self.watermarks.assign(partitions)
        for partition in partitions:
            self.held[partition] = self.epoch
            self.committed.pop(partition, None)

    @rule(partitions=st.sets(st.sampled_from(PARTITIONS), min_size=1))
    def revoke(self, partitions: set[tuple[str, int]]) -> None:
        self.watermarks.revoke(partitions)
        for partition in partitions:
            self.held.pop(partition, None)

    @precondition(lambda self: self.held)
    @rule(target=tracked_offsets, data=st.data(), gap=st.integers(0, 3))
    def begin(self, data: st.DataObject, gap: int) -> TrackedOffset:
        partition = data.draw(st.sampled_from(sorted(self.held)))
        offsets = self.begun.setdefault(self.held[partition], {}).setdefault(partition, [])
        offset = (offsets[-1] + 1 if offsets else 10) + gap
        offsets.append(offset)
        return self.watermarks.begin(partition, offset)

    @rule(tracked=consumes(tracked_offsets))
    def finish(self, tracked: TrackedOffset) -> None:
        current = self.held.get(tracked.partition) == tracked.epoch
        assert self.watermarks.finish(tracked) is current
        if current:
            self.finished.add(tracked)
            assert self.watermarks.finish(tracked) is False

    @rule()
    def commit(self) -> None:
        offsets = self.watermarks.committable()
        for partition, offset in offsets.items():
            assert offset > self.committed.get(partition, 0), "a commit never goes back"
        self.watermarks.committed(offsets)
        self.committed |= offsets
        assert self.watermarks.committable() == {}

    @invariant()
    def never_past_unfinished_work(self) -> None:
        for partition, offset in self.watermarks.committable().items():
            epoch = self.held[partition]
            begun = self.begun[epoch][partition]
            done = {
                tracked.offset for tracked in self.finished if (tracked.partition, tracked.epoch) == (partition, epoch)
            }
            before = [one for one in begun if one < offset]
            assert before, "nothing is committable before something was finished"
            assert set(before) <= done
            assert offset == begun[-1] + 1 or offset in set(begun) - done, "and as far as possible"


TestWatermarkMachine = WatermarkMachine.TestCase
TestWatermarkMachine.settings = hypothesis_settings(max_examples=100, stateful_step_count=40, deadline=None)


def test_an_offset_that_does_not_ascend_is_refused() -> None:
    watermarks = Watermarks()
    watermarks.assign([("jobs", 0)])
    watermarks.begin(("jobs", 0), 7)
    with pytest.raises(ValueError, match="offset 7"):
        watermarks.begin(("jobs", 0), 7)


def test_a_partition_that_is_not_held_is_refused() -> None:
    with pytest.raises(KeyError):
        Watermarks().begin(("jobs", 0), 0)
