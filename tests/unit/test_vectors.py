"""The BF16 blob and MaxSim."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ingestion.vectors import decode_blob, encode_blob, from_bf16, maxsim, to_bf16

matrices = hnp.arrays(
    np.float32,
    st.tuples(st.integers(0, 20), st.integers(1, 9)),
    elements=st.floats(-(2.0**99), 2.0**99, width=32),
)


@given(hnp.arrays(np.float32, st.integers(0, 50), elements=st.floats(width=32, allow_nan=False)))
def test_bf16_rounds_as_torch_does(values: np.ndarray) -> None:
    expected = torch.from_numpy(values).to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
    assert np.array_equal(to_bf16(values), expected)


def test_nan_stays_nan() -> None:
    assert np.isnan(from_bf16(to_bf16(np.array([np.nan, -np.nan], np.float32)))).all()


@given(matrices)
def test_a_blob_holds_what_bf16_can_hold(vectors: np.ndarray) -> None:
    decoded = decode_blob(encode_blob(vectors))
    assert decoded.shape == vectors.shape
    assert np.array_equal(decoded, from_bf16(to_bf16(vectors)))
    assert encode_blob(decoded) == encode_blob(vectors)


def test_a_blob_begins_with_its_shape_in_little_endian() -> None:
    assert encode_blob(np.ones((2, 3), np.float32)) == bytes([2, 0, 0, 0, 3, 0, 0, 0]) + bytes([0x80, 0x3F]) * 6


@pytest.mark.parametrize("blob", [b"", b"\x01\x00\x00", encode_blob(np.ones((2, 3), np.float32))[:-1]])
def test_a_truncated_blob_is_refused(blob: bytes) -> None:
    with pytest.raises(ValueError, match="vector blob"):
        decode_blob(blob)


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
