"""A cache that keeps what is used most often."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ingestion.search.frequency_cache import FrequencyCache


def cache_of(limit: int) -> FrequencyCache[int, bytes]:
    return FrequencyCache[int, bytes](limit, len)


def hits_of(cache: FrequencyCache[int, bytes], keys: range) -> int:
    hits = 0
    for key in keys:
        if cache.get(key) is not None:
            hits += 1
        else:
            cache.put(key, bytes(10))
    return hits


def test_of_entries_used_in_turn_that_do_not_fit_a_part_stays() -> None:
    cache = cache_of(100)
    rounds = [hits_of(cache, range(15)) for _ in range(20)]
    assert min(rounds[1:]) >= 9
    assert cache.bytes == 100


def test_entries_that_are_used_no_more_make_room_for_others() -> None:
    cache = cache_of(100)
    for _ in range(2_000):
        hits_of(cache, range(10))
    for _ in range(500):
        hits_of(cache, range(100, 110))
    assert hits_of(cache, range(100, 110)) == 10


def test_keys_that_are_asked_for_once_are_forgotten() -> None:
    cache = cache_of(100)
    hits_of(cache, range(20_000))
    assert len(cache._uses) <= 1_000


def test_an_entry_larger_than_the_cache_is_not_kept() -> None:
    cache = cache_of(10)
    cache.put(1, bytes(10))
    cache.put(2, bytes(11))
    assert cache.get(1) is not None and cache.get(2) is None


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 8), st.integers(0, 12))))
def test_it_never_holds_more_than_its_limit_and_never_another_value(steps: list[tuple[bool, int, int]]) -> None:
    cache, put = cache_of(20), dict[int, bytes]()
    for is_put, key, size in steps:
        if is_put:
            cache.put(key, put.setdefault(key, bytes([key]) * size))
        elif (found := cache.get(key)) is not None:
            assert found == put[key]
        assert cache.bytes <= 20
