"""How long a consumer has got nothing."""

from __future__ import annotations

from ingestion.adapters.kafka.fetch_progress import FetchProgress

A, B = ("jobs", 0), ("jobs", 1)


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0
        self.progress = FetchProgress(lambda: self.now_s)

    def after(self, step_s: float, answered: dict[tuple[str, int], int | None], *, has_records: bool = False) -> float:
        self.now_s += step_s
        self.progress.note(answered, has_records=has_records)
        return self.progress.silent_s


def test_silence_grows_until_one_partition_is_answered() -> None:
    clock = Clock()
    clock.after(1, {A: 1, B: None})
    assert clock.after(1, {A: 1, B: None}) == 1
    assert clock.after(1, {A: 1, B: None}) == 2
    assert clock.after(1, {A: 2, B: None}) == 0


def test_partitions_that_are_assigned_are_no_answer() -> None:
    """Otherwise a member whose fetches never work would join again for ever."""
    clock = Clock()
    clock.after(1, {})
    clock.progress.joined()
    assert clock.after(1, {A: None, B: None}) == 1
    assert clock.after(1, {A: None, B: None}) == 2
    assert clock.after(1, {A: None, B: 7}) == 0


def test_records_of_a_buffer_are_progress() -> None:
    clock = Clock()
    clock.after(1, {A: 1})
    assert clock.after(1, {A: 1}, has_records=True) == 0


def test_paused_partitions_and_a_member_without_partitions_wait_for_nothing() -> None:
    clock = Clock()
    clock.progress.joined()
    assert clock.after(1, {}) == clock.after(1, {}) == 0


def test_a_rebalance_that_does_not_end_is_silence() -> None:
    clock = Clock()
    clock.progress.left()
    assert clock.after(1, {}) == 1
    clock.progress.joined()
    assert clock.after(1, {}) == 0


def test_the_time_in_which_the_process_was_frozen_does_not_count() -> None:
    clock = Clock()
    clock.after(1, {A: 1})
    assert clock.after(600, {A: 1}) == 2
