"""The blob that holds a page's vectors.

A blob is little-endian. Its header states its precision; the name of its object does not. Two attempts may store a
page under different settings, and the second must replace the blob of the first.

- BF16: uint32 tokens, uint32 dim, then tokens * dim BF16. 2 bytes a value.
- int8 and int4: uint32 mark, uint32 tokens, uint32 dim, then a float32 scale for each token, then its values, which
  are integers times that scale. int8 takes a byte a value; int4 takes half of one: a byte holds a value of the first
  half of the dimensions in its lower four bits and one of the second half in its upper four, both plus 8.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ingestion.model import BlobPrecision, Vectors

_HEADER: Final = struct.Struct("<II")
_MARKED_HEADER: Final = struct.Struct("<III")
_MARKS: Final[dict[BlobPrecision, int]] = {"int8": 0xFFFF_FF08, "int4": 0xFFFF_FF04}
"""Written in place of the number of tokens. No page has so many tokens."""
_PRECISIONS: Final = {mark: precision for precision, mark in _MARKS.items()}
_LARGEST: Final[dict[BlobPrecision, int]] = {"int8": 127, "int4": 7}
_INT4_ZERO: Final = 8


def to_bf16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Round float32 to the nearest BF16 (ties to even) and return its bits. Infinities and NaN are kept."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = (bits + (((bits >> 16) & 1) + np.uint32(0x7FFF))) >> 16
    return np.where(np.isfinite(values), rounded, (bits >> 16) | (np.isnan(values) << 6)).astype(np.uint16)


def from_bf16(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """BF16 bits to float32, exactly."""
    return np.left_shift(bits, 16, dtype=np.uint32).view(np.float32)


def to_integers(values: NDArray[np.float32], largest: int) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """(tokens, dim) -> scales (tokens,), values (tokens, dim): symmetric, so that a token's largest becomes `largest`.

    A value is off by half its token's scale at most. Raises ValueError where one is not finite.
    """
    if not np.isfinite(values).all():
        raise ValueError("vectors with infinite or undefined values cannot be kept as integers")
    scales = np.abs(values).max(axis=1, initial=0) / np.float32(largest)  # (tokens,)
    steps = values / np.where(scales > 0, scales, 1)[:, None]
    return scales, np.clip(np.rint(steps), -largest, largest).astype(np.int8)


def encode_blob(vectors: Vectors, precision: BlobPrecision = "bf16") -> bytes:
    """(tokens, dim) float32 -> a blob. Raises ValueError where a value is not finite, unless `precision` is bf16."""
    tokens, dim = vectors.shape
    if precision == "bf16":
        return _HEADER.pack(tokens, dim) + to_bf16(vectors).astype("<u2").tobytes()
    scales, values = to_integers(vectors, _LARGEST[precision])
    packed = values if precision == "int8" else _halved(values)
    return _MARKED_HEADER.pack(_MARKS[precision], tokens, dim) + scales.astype("<f4").tobytes() + packed.tobytes()


@dataclass(frozen=True, slots=True)
class StoredVectors:
    """The content of a blob, without conversion. A vector is its `values` times its scale, where there are scales."""

    values: NDArray[np.int8] | NDArray[np.uint16]
    """(tokens, dim): integers, or the bits of BF16."""
    scales: NDArray[np.float32] | None = None
    """(tokens,); None for BF16."""

    def __len__(self) -> int:
        return len(self.values)

    def write_unscaled(self, rows: NDArray[np.float32]) -> None:
        """Write the values into `rows`, (tokens, dim). Raises ValueError where that is not their shape."""
        if rows.shape != self.values.shape:
            raise ValueError(f"vectors of shape {self.values.shape} do not fit {rows.shape}")
        if self.scales is None:
            np.left_shift(self.values, 16, out=rows.view(np.uint32), dtype=np.uint32)
        else:
            rows[...] = self.values


def open_blob(blob: bytes) -> StoredVectors:
    """A blob of any precision, where possible without a copy. Raises ValueError where length and header disagree."""
    if len(blob) < _HEADER.size:
        raise ValueError(f"vector blob of {len(blob)} bytes has no header")
    tokens, dim = _HEADER.unpack_from(blob)
    if tokens in _PRECISIONS:
        return _open_integers(blob, _PRECISIONS[tokens])
    if len(blob) != _HEADER.size + 2 * tokens * dim:
        raise ValueError(f"vector blob of {len(blob)} bytes does not hold {tokens} x {dim} BF16 values")
    return StoredVectors(np.frombuffer(blob, dtype="<u2", offset=_HEADER.size).reshape(tokens, dim))


def decode_blob(blob: bytes) -> Vectors:
    """A blob of any precision -> (tokens, dim) float32. Raises ValueError where length and header disagree."""
    stored = open_blob(blob)
    vectors = np.empty(stored.values.shape, np.float32)
    stored.write_unscaled(vectors)
    if stored.scales is not None:
        vectors *= stored.scales[:, None]
    return vectors


def _open_integers(blob: bytes, precision: BlobPrecision) -> StoredVectors:
    if len(blob) < _MARKED_HEADER.size:
        raise ValueError(f"vector blob of {len(blob)} bytes has no whole {precision} header")
    _, tokens, dim = _MARKED_HEADER.unpack_from(blob)
    token_bytes = dim if precision == "int8" else (dim + 1) // 2
    start = _MARKED_HEADER.size + 4 * tokens
    if len(blob) != start + tokens * token_bytes:
        raise ValueError(f"vector blob of {len(blob)} bytes does not hold {tokens} x {dim} {precision} values")
    scales = np.frombuffer(blob, dtype="<f4", count=tokens, offset=_MARKED_HEADER.size)
    packed = np.frombuffer(blob, dtype=np.int8, offset=start).reshape(tokens, token_bytes)
    return StoredVectors(packed if precision == "int8" else _doubled(packed, dim), scales)


def _halved(values: NDArray[np.int8]) -> NDArray[np.uint8]:
    """(tokens, dim) of -7 to 7 -> (tokens, dim / 2, rounded up): two values a byte."""
    _, dim = values.shape
    half = (dim + 1) // 2
    shifted = (values + _INT4_ZERO).astype(np.uint8)
    upper = np.zeros((len(values), half), np.uint8)
    upper[:, : dim - half] = shifted[:, half:] << 4
    return shifted[:, :half] | upper


def _doubled(packed: NDArray[np.int8], dim: int) -> NDArray[np.int8]:
    """The inverse of `_halved`."""
    both = packed.view(np.uint8)
    halves = (both & 0x0F, both[:, : dim // 2] >> 4)
    return np.concatenate(halves, axis=1).view(np.int8) - np.int8(_INT4_ZERO)
