"""A cache that never grows beyond its capacity."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ingestion.search.lru_cache import BoundedCache


def test_what_was_not_asked_for_the_longest_is_forgotten_first() -> None:
    cache: BoundedCache[str, int] = BoundedCache(2)
    cache.put("a", 1)
    cache.put("b", 2)
    assert cache.get("a") == 1
    cache.put("c", 3)
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (1, None, 3)


def test_an_entry_larger_than_the_whole_cache_drives_nothing_out() -> None:
    cache: BoundedCache[str, int] = BoundedCache(10)
    cache.put("a", 1, cost=10)
    cache.put("b", 2, cost=11)
    assert (cache.get("a"), cache.get("b")) == (1, None)


@given(st.integers(0, 30), st.lists(st.tuples(st.integers(0, 9), st.integers(0, 12))))
def test_the_cost_is_that_of_what_is_kept_and_never_above_the_capacity(
    capacity: int, entries: list[tuple[int, int]]
) -> None:
    cache: BoundedCache[int, int] = BoundedCache(capacity)
    for key, cost in entries:
        cache.put(key, cost, cost)
        assert cache.cost <= capacity
        assert cache.cost == sum(kept for other in range(10) if (kept := cache.get(other)) is not None)
