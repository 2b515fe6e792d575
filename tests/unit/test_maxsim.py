"""MaxSim, over arrays and over blobs."""

from __future__ import annotations

from itertools import cycle
from typing import Final, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion import maxsim as module
from ingestion.maxsim import maxsim, maxsim_of_blobs
from ingestion.model import BlobPrecision
from ingestion.vectors.blob import decode_blob, encode_blob

PRECISIONS: Final[tuple[BlobPrecision, ...]] = get_args(BlobPrecision)


@given(
    st.integers(1, 5),
    st.lists(st.integers(0, 6), max_size=6),
    st.integers(0, 2**32 - 1),
)
def test_maxsim_is_the_sum_of_the_best_products(query_tokens: int, page_tokens: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    query = random.standard_normal((query_tokens, 4)).astype(np.float32)
    pages = [random.standard_normal((tokens, 4)).astype(np.float32) for tokens in page_tokens]
    scores = maxsim(query, pages)
    for page, score in zip(pages, scores, strict=True):
        if len(page):
            assert score == pytest.approx(sum(max(float(t @ p) for p in page) for t in query), rel=1e-4, abs=1e-5)
        else:
            assert score == -np.inf


@given(
    query_tokens=st.integers(1, 5),
    page_tokens=st.lists(st.integers(0, 6), max_size=9),
    block_values=st.integers(1, 60),
    seed=st.integers(0, 2**32 - 1),
)
def test_blobs_of_every_precision_score_as_what_they_decode_to(
    query_tokens: int, page_tokens: list[int], block_values: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    query = random.standard_normal((query_tokens, 5)).astype(np.float32)
    pages = [random.standard_normal((tokens, 5)).astype(np.float32) for tokens in page_tokens]
    blobs = [encode_blob(page, precision) for page, precision in zip(pages, cycle(PRECISIONS), strict=False)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK_VALUES", block_values)
        scores = maxsim_of_blobs(query, blobs)
    assert scores == pytest.approx(maxsim(query, [decode_blob(blob) for blob in blobs]), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_vectors_of_another_dimension_are_refused(precision: BlobPrecision) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        maxsim_of_blobs(np.ones((1, 4), np.float32), [encode_blob(np.ones((2, 3), np.float32), precision)])
