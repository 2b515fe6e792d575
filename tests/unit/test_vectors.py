"""The blob that holds a page's vectors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ingestion.model import ROWS_PER_PAGE, BlobPrecision
from ingestion.vectors.blob import decode_blob, encode_blob, from_bf16, to_bf16

matrices = hnp.arrays(
    np.float32,
    st.tuples(st.integers(0, 20), st.integers(1, 9)),
    elements=st.floats(-(2.0**99), 2.0**99, width=32),
)


@given(hnp.arrays(np.float32, st.integers(0, 50), elements=st.floats(width=32, allow_nan=False)))
def test_bf16_rounds_as_torch_does(values: np.ndarray) -> None:
    import torch  # only this test needs it, and the import takes seconds

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


@pytest.mark.parametrize(("precision", "largest"), [("int8", 127), ("int4", 7)])
@given(vectors=matrices)
@example(vectors=np.array([[5.9e-44]], np.float32))
def test_integers_are_off_by_half_a_step_of_their_token_at_most(
    precision: BlobPrecision, largest: int, vectors: np.ndarray
) -> None:
    decoded = decode_blob(encode_blob(vectors, precision))
    assert decoded.shape == vectors.shape
    assert decoded.dtype == np.float32
    steps = np.abs(vectors).max(axis=1, initial=0, keepdims=True) / largest
    rounding_of_scale = largest * 2.0**-149  # a scale is a multiple of the smallest float32
    assert (np.abs(decoded - vectors) <= 0.5001 * steps + rounding_of_scale).all()


def test_an_int8_blob_holds_a_scale_a_token_and_a_byte_a_value() -> None:
    blob = encode_blob(np.array([[1, -0.5, 0], [0, 0, 0]], np.float32), "int8")
    mark, tokens, dim = np.frombuffer(blob, "<u4", 3)
    assert (tokens, dim) == (2, 3)
    assert mark > ROWS_PER_PAGE, "else it were the number of tokens of a BF16 blob"
    assert np.array_equal(np.frombuffer(blob, "<f4", 2, 12), np.array([1 / 127, 0], np.float32))
    assert np.array_equal(np.frombuffer(blob, np.int8, offset=20), [127, -64, 0, 0, 0, 0])


def test_an_int4_blob_holds_two_values_a_byte() -> None:
    blob = encode_blob(np.array([[7, -7, 1, 0, -1], [0, 0, 0, 0, 0]], np.float32), "int4")
    assert np.array_equal(np.frombuffer(blob, "<f4", 2, 12), [1, 0])
    assert blob[20:] == bytes([0x8F, 0x71, 0x09, 0x88, 0x88, 0x08])


def test_int8_refuses_values_that_are_not_finite() -> None:
    with pytest.raises(ValueError, match="infinite"):
        encode_blob(np.array([[1, np.inf]], np.float32), "int8")


def test_a_blob_begins_with_its_shape_in_little_endian() -> None:
    assert encode_blob(np.ones((2, 3), np.float32)) == bytes([2, 0, 0, 0, 3, 0, 0, 0]) + bytes([0x80, 0x3F]) * 6


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"\x01\x00\x00",
        encode_blob(np.ones((2, 3), np.float32))[:-1],
        encode_blob(np.ones((2, 3), np.float32), "int8")[:-1],
        encode_blob(np.ones((2, 3), np.float32), "int8")[:11],
        encode_blob(np.ones((2, 3), np.float32), "int4")[:-1],
    ],
)
def test_a_truncated_blob_is_refused(blob: bytes) -> None:
    with pytest.raises(ValueError, match="vector blob"):
        decode_blob(blob)
