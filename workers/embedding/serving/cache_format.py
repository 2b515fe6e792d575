"""The cache's format: BF16 big-endian rows, under a key made from the model and the input."""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ingestion.model import Vectors
from ingestion.vectors.blob import from_bf16, to_bf16

_UNIT: Final = "n1"
"""Marks rows of unit length, which every embedder returns. `n0`, for other rows, is unused."""

_COMPUTATIONS: Final = {"none": "none", "mean": "mean of all tokens"}
"""The pooling in a key. Change the text with the computation, so that older values are not found."""

_MAGNITUDE: Final = 0x7FFF
_INFINITY: Final = 0x7F80
"""BF16 magnitude of infinity; a larger magnitude is NaN."""


class CacheKeys:
    """Makes the cache keys for one embedder."""

    def __init__(self, fingerprint: str) -> None:
        self._prefix = f"emb:{fingerprint}:{_UNIT}:"

    def key(self, modality: str, input_type: str, pooling: str, content: bytes) -> str:
        """`emb:{fingerprint}:n1:{sha256}`. `content`: a text in UTF-8, or an image file."""
        digest = hashlib.sha256(f"{modality}\0{input_type}\0{_COMPUTATIONS[pooling]}\0".encode())
        digest.update(content)
        return self._prefix + digest.hexdigest()


def to_cache_value(vectors: Vectors) -> bytes:
    """(rows, dim) float32 -> BF16 big-endian, two bytes a number."""
    return to_bf16(vectors).astype(">u2").tobytes()


def from_cache_value(value: bytes, dim: int) -> Vectors:
    """(rows, dim) float32: the inverse of `to_cache_value`, up to BF16 rounding.

    Raises ValueError if `value` is not one or more rows of `dim` finite numbers.
    """
    if not value or len(value) % (2 * dim):
        raise ValueError(f"{len(value)} bytes are not rows of {dim} BF16 numbers")
    bits: NDArray[np.uint16] = np.frombuffer(value, ">u2").astype(np.uint16)
    if (bits & _MAGNITUDE).max() >= _INFINITY:
        raise ValueError("the numbers contain NaN or infinity")
    return from_bf16(bits).reshape(-1, dim)
