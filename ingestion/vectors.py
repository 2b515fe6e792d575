"""Multi-vector arithmetic: the BF16 blob of a page, and MaxSim over many pages at once."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ingestion.model import Vectors

_HEADER: Final = struct.Struct("<II")


def to_bf16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Round float32 to the nearest BF16 (ties to even) and return its bits. Infinities and NaN are kept."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = (bits + (((bits >> 16) & 1) + np.uint32(0x7FFF))) >> 16
    return np.where(np.isfinite(values), rounded, (bits >> 16) | (np.isnan(values) << 6)).astype(np.uint16)


def from_bf16(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """BF16 bits to float32, exactly."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def encode_blob(vectors: Vectors) -> bytes:
    """(tokens, dim) float32 -> uint32 tokens, uint32 dim, then tokens * dim BF16, all little-endian."""
    tokens, dim = vectors.shape
    return _HEADER.pack(tokens, dim) + to_bf16(vectors).astype("<u2").tobytes()


def decode_blob(blob: bytes) -> Vectors:
    """The inverse of `encode_blob`, up to BF16 rounding. Raises ValueError where length and header disagree."""
    if len(blob) < _HEADER.size:
        raise ValueError(f"vector blob of {len(blob)} bytes has no header")
    tokens, dim = _HEADER.unpack_from(blob)
    if len(blob) != _HEADER.size + 2 * tokens * dim:
        raise ValueError(f"vector blob of {len(blob)} bytes does not hold {tokens} x {dim} BF16 values")
    return from_bf16(np.frombuffer(blob, dtype="<u2", offset=_HEADER.size)).reshape(tokens, dim)


def maxsim(query: Vectors, pages: Sequence[Vectors]) -> NDArray[np.float32]:
    """Late-interaction score of each page: the sum over query tokens of the best inner product with a page token.

    query: (query_tokens, dim); pages: any number of (tokens, dim); returns (pages,). A page without tokens scores
    -inf. Source of the formula: Khattab and Zaharia, ColBERT, 2020, equation 3.
    """
    scores = np.full(len(pages), -np.inf, dtype=np.float32)
    filled = [i for i, page in enumerate(pages) if len(page)]
    if not filled or not len(query):
        return scores
    stacked = np.concatenate([pages[i] for i in filled])  # (all_tokens, dim)
    starts = np.cumsum([0] + [len(pages[i]) for i in filled[:-1]])
    similarity = stacked @ query.T  # (all_tokens, query_tokens)
    scores[filled] = np.maximum.reduceat(similarity, starts, axis=0).sum(axis=1)
    return scores
