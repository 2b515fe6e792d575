"""Scores of pages by sign codes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ingestion.model import Vectors
from ingestion.search.code_scoring import (
    REFINED_PLANES,
    CodeQueries,
    best_first,
    code_scores,
    joined_scores,
    pad_codes,
    scan_scores,
)
from ingestion.vectors.blob import decode_blob, encode_blob
from ingestion.vectors.sign_codes import CodeSegment, rotate


def unit_vectors(tokens: int, dim: int, seed: int) -> Vectors:
    """As they are stored."""
    vectors = np.random.default_rng(seed).standard_normal((tokens, dim)).astype(np.float32)
    return decode_blob(encode_blob(vectors / np.linalg.norm(vectors, axis=1, keepdims=True)))


def segment_of(pages: list[Vectors]) -> CodeSegment:
    stored = CodeSegment.of([encode_blob(page) for page in pages])
    return CodeSegment(stored.bits, stored.counts, pad_codes(stored.codes))


def by_definition(query: Vectors, page: Vectors) -> float:
    """MaxSim between the query and the signs of the page's vectors."""
    signs = np.where(rotate(page) > 0, 1, -1)
    return float((signs @ rotate(query).T).max(axis=0).sum())


def hamming_by_definition(query: Vectors, page: Vectors) -> NDArray[np.int64]:
    """The least Hamming distance of each query token, (tokens,)."""
    different = (rotate(page) > 0)[:, None] != (rotate(query) > 0)[None]
    return different.sum(axis=2).min(axis=0)


@pytest.mark.parametrize("dim", [3, 128, 384])
def test_one_plane_is_the_hamming_distance_of_the_nearest_code(dim: int) -> None:
    pages = [unit_vectors(tokens, dim, seed=tokens) for tokens in (1, 30, 7)]
    query = unit_vectors(4, dim, seed=0)
    coarse = CodeQueries.of([query], 1)
    scores = scan_scores(coarse, [segment_of(pages)])[:, 0]
    nearest = np.stack([hamming_by_definition(query, page) for page in pages])
    expected = ((coarse.bits / 2 - nearest) * coarse.steps).sum(axis=1)
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("dim", [128, 384])
def test_more_planes_come_nearer_to_the_products_with_the_signs(dim: int) -> None:
    pages = [unit_vectors(40, dim, seed=number) for number in range(1, 30)]
    query = unit_vectors(5, dim, seed=0)
    exact = np.array([by_definition(query, page) for page in pages])
    segment = segment_of(pages)
    errors = [
        float(np.std(scan_scores(CodeQueries.of([query], planes), [segment])[:, 0] - exact)) for planes in (1, 2, 3, 4)
    ]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.3 * float(np.std(exact))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.sampled_from([1, REFINED_PLANES]), st.integers(1, 5))
def test_pages_score_alone_as_they_do_among_others(counts: list[int], planes: int, tokens: int) -> None:
    pages = [unit_vectors(count, 16, seed=number) for number, count in enumerate(counts)]
    query = CodeQueries.of([unit_vectors(tokens, 16, seed=99)], planes)
    segments = [segment_of(pages[start : start + 7]) for start in range(0, len(pages), 7)]
    scanned = scan_scores(query, segments)
    codes = [segment.of_page(index) for segment in segments for index in range(segment.pages)]
    np.testing.assert_array_equal(scanned, joined_scores(query, codes))
    alone = np.concatenate([code_scores(query, one, np.array([len(one)])) for one in codes])
    np.testing.assert_array_equal(scanned, alone)
    assert (alone[:, 0] == -np.inf).tolist() == [count == 0 for count in counts]


def test_queries_score_together_as_they_do_alone() -> None:
    pages = [unit_vectors(count, 128, seed=count) for count in (3, 0, 40)]
    queries = [unit_vectors(tokens, 128, seed=tokens) for tokens in (1, 7, 2, 300)]
    segment = segment_of(pages)
    for planes in (1, REFINED_PLANES):
        together = scan_scores(CodeQueries.of(queries, planes), [segment])
        alone = [scan_scores(CodeQueries.of([query], planes), [segment])[:, 0] for query in queries]
        np.testing.assert_allclose(together, np.stack(alone, axis=1), rtol=1e-5)


def test_long_queries_and_large_segments_are_scored_in_blocks() -> None:
    pages = [unit_vectors(2048, 128, seed=number) for number in range(3)]
    query = CodeQueries.of([unit_vectors(510, 128, seed=9)], REFINED_PLANES)
    segment = segment_of(pages)
    alone = [code_scores(query, segment.of_page(index), segment.counts[index : index + 1]) for index in range(3)]
    np.testing.assert_array_equal(scan_scores(query, [segment]), np.concatenate(alone))


def test_a_query_token_of_zeros_adds_nothing() -> None:
    query = unit_vectors(3, 384, seed=1)
    with_zeros = np.concatenate([query, np.zeros((1, 384), np.float32)])
    segment = segment_of([unit_vectors(20, 384, seed=2), unit_vectors(20, 384, seed=3)])
    for planes in (1, REFINED_PLANES):
        scores = scan_scores(CodeQueries.of([query], planes), [segment])[:, 0]
        np.testing.assert_allclose(
            scan_scores(CodeQueries.of([with_zeros], planes), [segment])[:, 0], scores, rtol=1e-5
        )


def test_codes_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match="128 bytes do not fit queries of 64"):
        scan_scores(CodeQueries.of([unit_vectors(1, 128, seed=0)], 1), [segment_of([unit_vectors(2, 1024, seed=1)])])


@given(st.lists(st.integers(-3, 3), max_size=200), st.integers(1, 20))
def test_the_best_come_first_and_of_equal_ones_the_first(scores: list[int], most: int) -> None:
    found = best_first(np.array(scores, np.float32), most).tolist()
    assert found == sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:most]
