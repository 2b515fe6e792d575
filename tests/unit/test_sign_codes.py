"""Sign codes of a page's vectors, and the segments that hold them."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from ingestion.model import SEGMENT_PAGES, BlobPrecision, Vectors, codes_keys
from ingestion.vectors.blob import encode_blob
from ingestion.vectors.sign_codes import (
    LEAST_BITS,
    CodeSegment,
    code_bits,
    rotate,
    segment_start,
    segment_starts,
    sign_codes,
)


def unit_vectors(tokens: int, dim: int, seed: int = 1) -> Vectors:
    vectors = np.random.default_rng(seed).standard_normal((tokens, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("precision", ["bf16", "int8", "int4"])
def test_a_bit_says_whether_a_stored_value_is_above_zero(precision: BlobPrecision) -> None:
    vectors = unit_vectors(5, 384)
    vectors[:, :7] = 0
    bits = np.unpackbits(sign_codes(encode_blob(vectors, precision)), axis=1)
    is_stored_as_zero = np.abs(vectors) < 0.5 * np.abs(vectors).max(axis=1, keepdims=True) / 7
    np.testing.assert_array_equal(bits[~is_stored_as_zero], (vectors > 0)[~is_stored_as_zero])
    assert not bits[:, :7].any()


@pytest.mark.parametrize("dim", [3, 8, 64, 96, 128, 200, 255])
def test_short_vectors_get_enough_bits_and_keep_their_products(dim: int) -> None:
    vectors = unit_vectors(6, dim)
    rotated = rotate(vectors)
    assert rotated.shape == (6, code_bits(dim)) and code_bits(dim) >= LEAST_BITS
    rotations = np.linalg.norm(rotated[0]) ** 2
    np.testing.assert_allclose(rotated @ rotated.T / rotations, vectors @ vectors.T, atol=1e-5)


@pytest.mark.parametrize("dim", [256, 300, 384, 1024])
def test_long_vectors_have_a_bit_for_each_dimension(dim: int) -> None:
    assert code_bits(dim) == dim
    assert sign_codes(encode_blob(unit_vectors(2, dim))).shape == (2, (dim + 7) // 8)


def test_the_rotation_is_the_same_on_every_machine() -> None:
    """Stored codes are compared with codes of queries that other processes make, in later releases too."""
    values = np.sqrt(np.arange(1, 129, dtype=np.float32))[None]  # no product is near zero
    assert np.packbits(rotate(values) > 0).tobytes().hex() == (
        "bb231c0b1afd6796e475e3cd2782f84b1cb343a2851036e92baded4f447a9bd6"
    )


@pytest.mark.parametrize("dim", [128, 384])
def test_a_segment_is_read_as_it_was_written(dim: int) -> None:
    blobs = [encode_blob(unit_vectors(tokens, dim, seed=tokens), "int8") for tokens in (4, 0, 9)]
    segment = CodeSegment.of(blobs)
    read = CodeSegment.decode(segment.encode())
    assert read.bits == code_bits(dim) and read.counts.tolist() == [4, 0, 9]
    np.testing.assert_array_equal(read.codes, np.concatenate([sign_codes(blob) for blob in blobs if len(blob) > 12]))


def test_pages_without_vectors_make_an_empty_segment() -> None:
    read = CodeSegment.decode(CodeSegment.of([encode_blob(np.empty((0, 384), np.float32))]).encode())
    assert read.counts.tolist() == [0] and not len(read.codes)


def test_pages_of_different_widths_make_no_segment() -> None:
    with pytest.raises(ValueError, match=r"\[128, 384\] dimensions"):
        CodeSegment.of([encode_blob(unit_vectors(1, 128)), encode_blob(unit_vectors(1, 384))])


def damaged(data: bytes) -> list[bytes]:
    return [b"", data[:10], data[:17], data[:-1], data + b"\0", b"PMSX" + data[4:], data[:4] + b"\x09" + data[5:]]


def test_an_object_that_is_something_else_is_refused() -> None:
    data = CodeSegment.of([encode_blob(unit_vectors(3, 384))]).encode()
    for wrong in damaged(data):
        with pytest.raises(ValueError, match="sign codes"):
            CodeSegment.decode(wrong)
    too_many = data[:16] + struct.pack("<I", 2**32 - 1) + data[20:]
    with pytest.raises(ValueError, match="do not hold"):
        CodeSegment.decode(too_many)


def test_a_page_is_in_the_segment_of_its_64() -> None:
    assert [segment_start(page) for page in (1, 64, 65, 128, 129)] == [1, 1, 65, 65, 129]
    assert [len(segment_starts(pages)) for pages in (1, 64, 65, 2415)] == [1, 1, 2, 38]
    assert codes_keys("d", 2 * SEGMENT_PAGES, 3) == [
        "documents/d/pages/000001.g3.codes",
        "documents/d/pages/000065.g3.codes",
    ]
