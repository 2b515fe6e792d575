"""Token pooling."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import linkage

from ingestion.model import PageVectors, Vectors
from ingestion.vectors.encoding import VectorEncoding
from ingestion.vectors.pooling import pool
from tests.support.shelf import page_of


def unit_rows(rows: int, dim: int, seed: int) -> Vectors:
    drawn = np.random.default_rng(seed).standard_normal((rows, dim))
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    return drawn.astype(np.float32)


VECTORS = st.builds(unit_rows, st.integers(1, 90), st.sampled_from([2, 16]), st.integers(0, 1000))


@settings(deadline=None)
@given(vectors=VECTORS, factor=st.integers(1, 32))
def test_there_are_as_many_rows_as_promised_each_of_unit_length(vectors: Vectors, factor: int) -> None:
    pooled = pool(vectors, factor)
    assert pooled.shape == (math.ceil(len(vectors) / factor), vectors.shape[1])
    assert pooled.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(pooled, axis=1), 1, atol=1e-6)


@settings(deadline=None, derandomize=True)  # the nearest pair is a matter of rounding in one case of many thousands
@given(vectors=VECTORS, factor=st.integers(2, 32))
def test_rows_are_the_means_of_wards_clusters_in_order_of_first_members(vectors: Vectors, factor: int) -> None:
    clusters = {index: [index] for index in range(len(vectors))}
    if len(vectors) > 1:
        for step, (left, right, _, _) in enumerate(linkage(vectors.astype(np.float64), "ward")):
            if len(clusters) == math.ceil(len(vectors) / factor):
                break
            clusters[len(vectors) + step] = clusters.pop(int(left)) + clusters.pop(int(right))
    means = np.array([vectors[members].mean(axis=0) for members in sorted(map(sorted, clusters.values()))])
    expected = means / np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(pool(vectors, factor), expected, atol=1e-4)


def test_factor_one_changes_nothing() -> None:
    vectors = unit_rows(50, 16, seed=1)
    assert pool(vectors, 1) is vectors


@pytest.mark.parametrize("rows", [0, 1])
def test_too_few_vectors_to_pool_are_returned_unchanged(rows: int) -> None:
    vectors = unit_rows(rows, 16, seed=2)
    np.testing.assert_array_equal(pool(vectors, 4), vectors)


def test_equal_vectors_become_one_before_others_are_merged() -> None:
    blank, *others = unit_rows(11, 16, seed=3)
    vectors = np.array([*others[:5], *[blank] * 10, *others[5:]])
    pooled = pool(vectors, 2)  # of 20 vectors 11 are different
    np.testing.assert_allclose(sorted(pooled @ blank)[-1], 1, atol=1e-6)
    assert len(np.unique(pooled.round(5), axis=0)) == 10


def test_opposed_vectors_still_give_a_direction() -> None:
    up = np.eye(4, dtype=np.float32)[:1]
    np.testing.assert_array_equal(pool(np.concatenate([up, -up]), 2), up)


def test_the_same_vectors_give_the_same_bytes() -> None:
    vectors = np.repeat(unit_rows(200, 128, seed=4), 3, axis=0)
    assert pool(vectors, 3).tobytes() == pool(vectors.copy(), 3).tobytes()


@pytest.mark.parametrize("factor", [2, 3, 8, 31, 32])
@pytest.mark.parametrize("patches", [1, 7, 255, 256, 257, 646])
def test_a_page_keeps_a_row_for_each_so_many_vectors_of_a_block_and_at_least_one(factor: int, patches: int) -> None:
    rows = VectorEncoding(index_pooling=factor).rows(with_vectors(unit_rows(patches, 16, seed=5))).vectors
    assert len(rows) == sum(math.ceil(min(256, patches - start) / factor) for start in range(0, patches, 256))
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)


def test_a_page_without_vectors_has_no_row() -> None:
    assert len(VectorEncoding(index_pooling=32).rows(with_vectors(unit_rows(0, 16, seed=6))).vectors) == 0


def with_vectors(vectors: Vectors) -> PageVectors:
    return replace(page_of(1, 1), vectors=vectors)
