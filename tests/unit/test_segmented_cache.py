"""A cache that one pass over many entries does not empty."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ingestion.search.segmented_cache import SegmentedCache


def cache_of(limit: int) -> SegmentedCache[int, bytes]:
    return SegmentedCache[int, bytes](limit, len)


def test_a_scan_removes_no_entry_that_was_used_twice() -> None:
    cache = cache_of(100)
    for key in range(5):
        cache.put(key, bytes(10))
        cache.get(key)
    for key in range(100, 200):
        cache.put(key, bytes(10))
        if key % 10 == 0:
            assert all(cache.get(used) is not None for used in range(5))
    assert cache.bytes == 100


def test_a_scan_fills_a_cache_that_is_empty() -> None:
    cache = cache_of(100)
    for key in range(10):
        cache.put(key, bytes(10))
    assert len(cache) == 10
    assert all(cache.get(key) is not None for key in range(10))
    assert all(cache.get(key) is not None for key in range(10))


def test_entries_that_are_used_no_more_make_room_for_others() -> None:
    cache = cache_of(100)
    for keys in (range(8), range(100, 108)):
        for _ in range(10):
            for key in keys:
                if cache.get(key) is None:
                    cache.put(key, bytes(10))
    assert all(key in cache for key in range(100, 108))


def test_an_entry_larger_than_the_cache_is_not_kept() -> None:
    cache = cache_of(10)
    cache.put(1, bytes(10))
    cache.put(2, bytes(11))
    assert cache.get(1) is not None and cache.get(2) is None


@given(st.lists(st.tuples(st.sampled_from(["put", "get", "remove"]), st.integers(0, 8), st.integers(0, 12))))
def test_it_never_holds_more_than_its_limit_and_never_another_value(steps: list[tuple[str, int, int]]) -> None:
    cache, put = cache_of(20), dict[int, bytes]()
    for action, key, size in steps:
        if action == "put":
            put[key] = bytes([key]) * size
            cache.put(key, put[key])
        elif action == "remove":
            cache.remove(key)
            assert key not in cache
        elif (found := cache.get(key)) is not None:
            assert found == put[key]
        held = [put[key] for key in range(9) if key in cache]
        assert cache.bytes == sum(map(len, held)) <= 20 and len(cache) == len(held)
