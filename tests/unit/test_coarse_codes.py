"""Coarse codes: the majority of the signs of neighbouring vectors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.effort import Effort
from ingestion.search.coarse_codes import RUN, coarse_codes
from ingestion.search.planning import plan_search
from ingestion.settings import SearchSettings
from ingestion.vectors.sign_codes import CodeSegment


def random_segment(counts: list[int], seed: int = 0) -> CodeSegment:
    codes = np.random.default_rng(seed).integers(0, 256, (sum(counts), 4), dtype=np.uint8)
    return CodeSegment(32, np.array(counts, np.int64), codes)


@given(st.lists(st.integers(0, 3 * RUN + 1), min_size=1, max_size=20), st.integers(0, 99))
def test_each_bit_is_the_majority_of_the_bits_of_a_run(counts: list[int], seed: int) -> None:
    segment = random_segment(counts, seed)
    coarse = coarse_codes(segment)
    assert coarse.counts.tolist() == [-(-count // RUN) for count in counts]
    for index, count in enumerate(counts):
        bits = np.unpackbits(segment.of_page(index), axis=1)
        for number, found in enumerate(np.unpackbits(coarse.of_page(index), axis=1)):
            first = max(0, min(RUN * number, count - RUN))
            run = [bits[first + place % min(count, RUN)] for place in range(RUN)]
            set_bits = np.sum(run, axis=0)
            assert found[set_bits > RUN / 2].all() and not found[set_bits < RUN / 2].any()


def test_an_even_run_sets_half_of_its_bits() -> None:
    zeros_and_ones = np.repeat(np.array([[0], [255]], np.uint8), 2, axis=0)
    coarse = coarse_codes(CodeSegment(8, np.array([4], np.int64), zeros_and_ones))
    assert np.unpackbits(coarse.codes).sum() == 4


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(0, 12))
def test_the_coarse_codes_of_a_page_do_not_depend_on_other_pages(counts: list[int], cut: int) -> None:
    segment = random_segment(counts)
    split = int(segment.counts[:cut].sum())
    parts = [
        CodeSegment(32, segment.counts[:cut], segment.codes[:split]),
        CodeSegment(32, segment.counts[cut:], segment.codes[split:]),
    ]
    together, apart = coarse_codes(segment), CodeSegment.joined([coarse_codes(part) for part in parts])
    np.testing.assert_array_equal(together.codes, apart.codes)
    np.testing.assert_array_equal(together.counts, apart.counts)


@pytest.mark.parametrize(
    ("pages", "effort", "coded"),
    [
        (1_024, Effort.BALANCED, None),
        (4_096, Effort.FAST, None),
        (9_216, Effort.BALANCED, 2_304),
        (9_216, Effort.FAST, 1_152),
        (16_384, Effort.BALANCED, 4_096),
    ],
)
def test_large_collections_compare_the_codes_of_some_pages(pages: int, effort: Effort, coded: int | None) -> None:
    assert plan_search(effort, 10, pages, 0, SearchSettings()).coded_pages == coded


def test_a_search_for_many_hits_compares_the_codes_of_more_pages() -> None:
    plan = plan_search(Effort.BALANCED, 500, 100_000, 0, SearchSettings(search_scan_pages=100_000))
    assert plan.coded_pages is not None and plan.coded_pages >= 2 * plan.refined_pages >= 4 * plan.scored_pages
