"""Sign codes: one bit for each dimension of a page's vectors, by which a search ranks many pages quickly.

A bit says whether a value is above zero. Vectors of fewer than LEAST_BITS dimensions have too few signs to tell pages
apart. They are rotated in several ways, and the signs of all rotations are kept.

Codes are made from the stored vectors, never from those that were rounded to be stored. So the same blob always gives
the same codes, whichever process makes them. (A value of almost zero may get another sign on another CPU, where the
vectors are rotated.)

A segment holds the codes of up to SEGMENT_PAGES consecutive pages of a document in one object. It is little-endian:
the mark, then uint32 format, bits of a code, number of pages, then the uint32 number of codes of each page, then the
codes, (bits + 7) // 8 bytes each.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import ceil
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from ingestion.model import SEGMENT_PAGES, SIGN_CODE_FORMAT, Vectors
from ingestion.vectors.blob import open_blob

LEAST_BITS: Final = 256
_MARK: Final = b"PMSC"
_HEADER: Final = struct.Struct("<4sIII")

Codes = NDArray[np.uint8]
"""(vectors, bytes of a code)"""


def code_bits(dim: int) -> int:
    """The number of bits of a code of a vector with `dim` dimensions."""
    return dim if dim >= LEAST_BITS else _rotations(dim) * _rotated_dim(dim)


def rotate(vectors: Vectors) -> Vectors:
    """(tokens, dim) -> (tokens, `code_bits(dim)`): the values whose signs are the code.

    Products of two rotated vectors are those of the vectors, times the number of rotations.
    """
    dim = vectors.shape[1]
    return vectors if dim >= LEAST_BITS else vectors @ _rotation(dim)


def sign_codes(blob: bytes) -> Codes:
    """The codes of a page's blob, in the order of its vectors. Raises ValueError where the blob cannot be read."""
    stored = open_blob(blob)
    values = np.empty(stored.values.shape, np.float32)
    stored.write_unscaled(values)  # a vector's scale is above zero and changes no sign
    return np.packbits(rotate(values) > 0, axis=1)


@dataclass(frozen=True, eq=False)
class CodeSegment:
    """The codes of consecutive pages of one document."""

    bits: int
    counts: NDArray[np.int64]
    """(pages,) the number of codes of each page."""
    codes: Codes
    """(sum of counts, bytes of a code)"""

    @property
    def size_bytes(self) -> int:
        return self.codes.nbytes + self.counts.nbytes

    @property
    def pages(self) -> int:
        return len(self.counts)

    @classmethod
    def of(cls, blobs: Sequence[bytes]) -> Self:
        """From the blobs of its pages. Raises ValueError where one cannot be read, or their widths differ."""
        opened = [open_blob(blob) for blob in blobs]
        widths = {stored.values.shape[1] for stored in opened if len(stored)}
        if len(widths) > 1:
            raise ValueError(f"pages of one document have vectors of {sorted(widths)} dimensions")
        bits = code_bits(widths.pop()) if widths else LEAST_BITS
        codes = [sign_codes(blob) for blob, stored in zip(blobs, opened, strict=True) if len(stored)]
        joined = np.concatenate(codes) if codes else np.empty((0, ceil(bits / 8)), np.uint8)
        return cls(bits, np.array([len(stored) for stored in opened], np.int64), joined)

    @classmethod
    def joined(cls, parts: Sequence[CodeSegment]) -> Self:
        """One segment of the pages of all parts, in their order. Raises ValueError where their widths differ."""
        widths = {part.bits for part in parts if len(part.codes)}
        if len(widths) > 1:
            raise ValueError(f"pages of one document have sign codes of {sorted(widths)} bits")
        bits = widths.pop() if widths else LEAST_BITS
        codes = [part.codes for part in parts if len(part.codes)]
        joined = np.concatenate(codes) if codes else np.empty((0, ceil(bits / 8)), np.uint8)
        return cls(bits, np.concatenate([np.empty(0, np.int64), *(part.counts for part in parts)]), joined)

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        return np.cumsum(self.counts)

    def of_page(self, index: int) -> Codes:
        """The codes of the page at `index`, from 0, without a copy."""
        end = int(self._ends[index])
        return self.codes[end - int(self.counts[index]) : end]

    def encode(self) -> bytes:
        """The content of the segment's object."""
        header = _HEADER.pack(_MARK, SIGN_CODE_FORMAT, self.bits, self.pages)
        return header + self.counts.astype("<u4").tobytes() + self.codes.tobytes()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The inverse of `encode`, without a copy of the codes. Raises ValueError where it is something else."""
        if len(data) < _HEADER.size:
            raise ValueError(f"an object of {len(data)} bytes holds no sign codes")
        mark, format_, bits, pages = _HEADER.unpack_from(data)
        if mark != _MARK or format_ != SIGN_CODE_FORMAT:
            raise ValueError(f"sign codes begin with {mark!r} and have format {format_}, not {SIGN_CODE_FORMAT}")
        start, width = _HEADER.size + 4 * pages, ceil(bits / 8)
        if len(data) < start:
            raise ValueError(f"{len(data)} bytes of sign codes have no whole header for {pages} pages")
        counts = np.frombuffer(data, "<u4", count=pages, offset=_HEADER.size).astype(np.int64)
        if len(data) != start + int(counts.sum()) * width:
            raise ValueError(f"{len(data)} bytes of sign codes do not hold {counts.sum()} codes of {bits} bits")
        return cls(bits, counts, np.frombuffer(data, np.uint8, offset=start).reshape(-1, width))


def segment_starts(pages: int) -> range:
    """The first page, from 1, of each segment of a document."""
    return range(1, pages + 1, SEGMENT_PAGES)


def segment_start(page_number: int) -> int:
    """The first page of the segment that holds `page_number`."""
    return page_number - (page_number - 1) % SEGMENT_PAGES


def segment_pages(first_page: int, pages: int) -> range:
    """The numbers of the pages of the segment that begins with `first_page`, in a document of `pages` pages."""
    return range(first_page, min(first_page + SEGMENT_PAGES, pages + 1))


def _rotated_dim(dim: int) -> int:
    """A Hadamard matrix has a power of two of rows."""
    return 1 << (dim - 1).bit_length()


def _rotations(dim: int) -> int:
    return ceil(LEAST_BITS / _rotated_dim(dim))


@lru_cache(maxsize=8)
def _rotation(dim: int) -> Vectors:
    """(dim, code bits) float32: Hadamard matrices behind random changes of sign. Equal on every machine, for ever."""
    size = _rotated_dim(dim)
    hadamard = np.ones((1, 1), np.float32)
    while len(hadamard) < size:
        hadamard = np.block([[hadamard, hadamard], [hadamard, -hadamard]])
    parts = []
    for number in range(_rotations(dim)):
        seed = hashlib.shake_256(f"pagemill sign codes {number}".encode()).digest(ceil(size / 8))
        signs = np.unpackbits(np.frombuffer(seed, np.uint8))[:size].astype(np.float32) * 2 - 1  # (size,)
        parts.append(signs[:dim, None] * hadamard[:dim] / np.float32(np.sqrt(size)))
    return np.concatenate(parts, axis=1)
