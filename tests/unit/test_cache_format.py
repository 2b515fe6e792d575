"""The format of vectors in the cache."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from ingestion.model import Vectors
from ingestion.vectors.blob import from_bf16, to_bf16
from workers.embedding.serving.cache_format import CacheKeys, from_cache_value, to_cache_value

_NUMBERS = st.floats(-(2.0**100), 2.0**100, width=32)
_MATRICES = arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=_NUMBERS)


@given(_MATRICES)
def test_vectors_come_back_rounded_to_bf16(vectors: Vectors) -> None:
    found = from_cache_value(to_cache_value(vectors), vectors.shape[1])
    assert found.dtype == np.float32
    assert np.array_equal(found, from_bf16(to_bf16(vectors)))


@given(_MATRICES)
def test_a_cached_value_is_stored_unchanged_again(vectors: Vectors) -> None:
    value = to_cache_value(vectors)
    assert len(value) == 2 * vectors.size
    assert to_cache_value(from_cache_value(value, vectors.shape[1])) == value


@given(st.binary(max_size=200), st.integers(1, 12))
def test_any_bytes_are_finite_rows_or_refused(value: bytes, dim: int) -> None:
    try:
        found = from_cache_value(value, dim)
    except ValueError:
        return
    assert found.shape == (len(value) // (2 * dim), dim)
    assert len(found) >= 1
    assert np.isfinite(found).all()


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_a_single_number_that_is_not_finite_spoils_the_value(number: float) -> None:
    vectors = np.ones((3, 4), np.float32)
    vectors[1, 2] = number
    with pytest.raises(ValueError, match="NaN or infinity"):
        from_cache_value(to_cache_value(vectors), 4)


def test_numbers_are_big_endian() -> None:
    assert to_cache_value(np.array([[1.0, -2.0]], np.float32)) == b"\x3f\x80\xc0\x00"


def test_a_key_depends_on_everything_that_the_vectors_depend_on() -> None:
    variants = [
        CacheKeys(fingerprint).key(modality, input_type, pooling, content)
        for fingerprint in ("a", "b")
        for modality in ("text", "image")
        for input_type in ("query", "document")
        for pooling in ("none", "mean")
        for content in (b"pump", b"valve", b"")
    ]
    assert len(set(variants)) == len(variants)
    assert CacheKeys("a").key("text", "query", "none", b"pump") == variants[0]


def test_a_mean_that_was_cached_before_special_tokens_counted_is_not_found() -> None:
    def key_of_old(pooling: str) -> str:
        return "emb:a:n1:" + hashlib.sha256(f"text\0query\0{pooling}\0pump".encode()).hexdigest()

    keys = CacheKeys("a")
    assert keys.key("text", "query", "mean", b"pump") != key_of_old("mean")
    assert keys.key("text", "query", "none", b"pump") == key_of_old("none")
