"""The audit of rows counts them in small requests."""

from __future__ import annotations

import pytest

from workers.audit.rows import portions


def keys_of(parts: list[list[range]]) -> list[int]:
    return [key for part in parts for keys in part for key in keys]


@pytest.mark.parametrize(
    "expected",
    [
        pytest.param([(range(10, 2425), 337_000)], id="one long document"),
        pytest.param([(range(key, key + 2), 380) for key in range(0, 400, 2)], id="many short ones"),
        pytest.param([(range(5), 200_000)], id="pages with more rows each than a request should count"),
        pytest.param([(range(3), 0), (range(3, 10**9), 0)], id="gaps, however wide"),
        pytest.param([], id="nothing"),
    ],
)
def test_every_key_is_counted_once(expected: list[tuple[range, int]]) -> None:
    parts = list(portions(expected))
    if sum(len(keys) for keys, _ in expected) < 10**6:
        assert keys_of(parts) == [key for keys, _ in expected for key in keys]
    else:
        assert parts == [[keys for keys, _ in expected]]


def test_a_request_counts_so_many_rows_at_most() -> None:
    long, short = (range(2400), 336_000), [(range(key, key + 10), 1400) for key in range(2400, 3000, 10)]
    parts = list(portions([long, *short]))
    rows = [sum(140 * len(keys) for keys in part) for part in parts]
    assert sum(rows) == 336_000 + 60 * 1400
    assert all(50_000 <= count <= 100_000 for count in rows[:-1])
