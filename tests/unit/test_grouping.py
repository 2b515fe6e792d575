"""Which items share a batch, and how much a batch may hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.embedding.batching.grouping import AdaptiveBatchLimit, UrgentFirst, choose_least_padding, choose_oldest

COSTS = st.lists(st.integers(1, 1200) | st.sampled_from([24, 400, 736, 752]), min_size=1, max_size=80)
BUDGETS = st.integers(1, 8000)


def batches(costs: list[int], budget: int) -> list[list[int]]:
    """The batches in which items that all wait from the start leave, as indices into `costs`."""
    waiting = list(range(len(costs)))
    left = []
    while waiting:
        batch = choose_least_padding([costs[item] for item in waiting], budget)
        left.append([waiting[index] for index in batch.indices])
        waiting = [item for item in waiting if item not in left[-1]]
    return left


@given(costs=COSTS, budget=BUDGETS)
def test_every_item_is_in_exactly_one_batch(costs: list[int], budget: int) -> None:
    assert sorted(item for batch in batches(costs, budget) for item in batch) == list(range(len(costs)))


@given(costs=COSTS, budget=BUDGETS)
def test_a_batch_padded_to_its_largest_item_stays_within_the_budget(costs: list[int], budget: int) -> None:
    batch = choose_least_padding(costs, budget)
    largest = max(costs[index] for index in batch.indices)
    assert batch.cost == largest * len(batch.indices)
    assert batch.cost <= budget or len(batch.indices) == 1


@given(costs=COSTS, budget=BUDGETS)
def test_an_item_waits_for_no_more_batches_than_there_are_older_items(costs: list[int], budget: int) -> None:
    for number, batch in enumerate(batches(costs, budget)):
        assert min(batch) >= number, "each batch has taken the oldest item, and so one at least of those before"


@given(newcomers=st.lists(st.integers(700, 760), min_size=100, max_size=100), odd=st.integers(1, 600))
def test_newcomers_of_a_common_size_do_not_hold_up_an_odd_one(newcomers: list[int], odd: int) -> None:
    waiting = [*newcomers[:10], odd]
    arriving = iter(newcomers[10:])
    for _ in range(11):
        batch = choose_least_padding(waiting, 3000)
        if odd in [waiting[index] for index in batch.indices]:
            return
        waiting = [cost for index, cost in enumerate(waiting) if index not in batch.indices]
        waiting += [next(arriving) for _ in batch.indices]
    pytest.fail("ten items were before it, and eleven batches have gone")


@given(costs=st.lists(st.sampled_from([400, 736]), min_size=2, max_size=80), budget=st.integers(2944, 8000))
def test_sizes_far_apart_are_not_mixed_where_each_fills_a_batch(costs: list[int], budget: int) -> None:
    count = {cost: costs.count(cost) for cost in (400, 736)}
    if min(count.values()) * 400 >= budget:
        assert len({costs[index] for index in choose_least_padding(costs, budget).indices}) == 1


def test_older_items_go_first_among_equal_ones() -> None:
    assert choose_least_padding([100] * 10, 400).indices == (0, 1, 2, 3)


def test_small_items_share_a_forward_pass() -> None:
    assert sorted(choose_least_padding([8, 20, 9, 14], 4000).indices) == [0, 1, 2, 3]


def test_an_item_above_the_budget_goes_alone() -> None:
    assert choose_least_padding([900, 10, 10], 500).indices == (0,)


def test_the_budget_is_halved_and_comes_back_slowly_short_of_what_failed() -> None:
    limit = AdaptiveBatchLimit(8000, raise_after=3)
    limit.on_out_of_memory(8000)
    assert limit.current == 4000
    history = []
    for _ in range(60):
        limit.on_success(full=True)
        history.append(limit.current)
    assert history[:4] == [4000, 4000, 4400, 4400]
    assert history[-1] == 7200


def test_a_batch_smaller_than_allowed_that_failed_halves_what_it_cost() -> None:
    limit = AdaptiveBatchLimit(8000)
    limit.on_out_of_memory(3000)
    assert limit.current == 1500


def test_batches_that_are_not_full_say_nothing_about_a_larger_budget() -> None:
    limit = AdaptiveBatchLimit(8000, raise_after=3)
    limit.on_out_of_memory(8000)
    for _ in range(60):
        limit.on_success(full=False)
    assert limit.current == 4000


def test_an_old_failure_is_forgotten_and_the_limit_never_exceeded() -> None:
    limit = AdaptiveBatchLimit(8000, raise_after=3, forget_after=100)
    limit.on_out_of_memory(8000)
    for _ in range(99):
        limit.on_success(full=True)
    assert limit.current == 7200
    for _ in range(20):
        limit.on_success(full=True)
    assert limit.current == 8000


@given(st.lists(st.none() | st.booleans() | st.integers(1, 9000), max_size=300))
def test_the_budget_stays_between_one_and_its_limit(events: list[int | bool | None]) -> None:
    limit = AdaptiveBatchLimit(8000, raise_after=2, forget_after=20)
    for event in events:
        if event is None or isinstance(event, bool):
            limit.on_success(full=bool(event))
        else:
            limit.on_out_of_memory(min(event, limit.current))
        assert 1 <= limit.current <= 8000


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=100), st.integers(1, 9))
def test_urgent_goes_first_and_the_rest_gets_a_turn_in_so_many(
    arrivals: list[tuple[bool, bool]], in_a_row: int
) -> None:
    order = UrgentFirst(in_a_row)
    overtaken = 0
    for urgent, rest in arrivals:
        goes_first = order.is_urgent_next(urgent=urgent, rest=rest)
        assert goes_first == (urgent and not (rest and overtaken == in_a_row))
        order.took(urgent=goes_first, rest_waits=rest)
        overtaken = overtaken + 1 if goes_first and rest else 0
        assert overtaken <= in_a_row


@given(st.lists(st.integers(1, 100), min_size=1), st.integers(1, 300))
def test_without_padding_a_batch_takes_the_oldest_items_that_fit(costs: list[int], budget: int) -> None:
    batch = choose_oldest(costs, budget)
    count = len(batch.indices)
    assert batch.indices == tuple(range(count))
    assert batch.cost == sum(costs[:count])
    assert count == 1 or batch.cost <= budget
    assert count == len(costs) or sum(costs[: count + 1]) > budget
