"""The terms of up to SEGMENT_PAGES consecutive pages of a document: how often each term occurs on which page.

A term is stored as the CRC-32 of its UTF-8 bytes. In a collection with a million terms, one term of 4,000 shares
it with another term; a search for the one also finds pages with the other.

A segment is one object, little-endian: the mark, then uint32 format, number of pages, of terms and of postings, then
the uint32 number of terms on each page with repetitions, the uint32 terms in ascending order, the uint8 number of
postings of each term less one, and for each posting the uint8 index of its page, then for each the uint8 number of
occurrences, 255 at most.
"""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from ingestion.model import TERM_FORMAT
from ingestion.terms.tokens import terms

_MARK: Final = b"PMTS"
_HEADER: Final = struct.Struct("<4sIIII")
_MOST_OCCURRENCES: Final = 255


def term_code(term: str) -> int:
    return zlib.crc32(term.encode())


@dataclass(frozen=True, eq=False)
class TermSegment:
    """The terms of consecutive pages of one document."""

    lengths: NDArray[np.uint32]
    """(pages,) the number of terms of each page, with repetitions."""
    codes: NDArray[np.uint32]
    """(terms,) in ascending order."""
    counts: NDArray[np.uint8]
    """(terms,) the number of postings of each term, less one."""
    page_indexes: NDArray[np.uint8]
    """(postings,) from 0, first those of the first term."""
    occurrences: NDArray[np.uint8]
    """(postings,)"""

    @property
    def pages(self) -> int:
        return len(self.lengths)

    @property
    def size_bytes(self) -> int:
        return sum(part.nbytes for part in self._parts)

    @property
    def _parts(self) -> tuple[NDArray[np.unsignedinteger], ...]:
        return self.lengths, self.codes, self.counts, self.page_indexes, self.occurrences

    @classmethod
    def of(cls, texts: Sequence[str]) -> Self:
        """From the texts of its pages, SEGMENT_PAGES at most."""
        of_pages = [Counter(map(term_code, terms(text))) for text in texts]
        lengths = np.array([counted.total() for counted in of_pages], np.uint32)
        pages = np.repeat(np.arange(len(texts), dtype=np.uint8), [len(counted) for counted in of_pages])
        codes = np.fromiter((code for counted in of_pages for code in counted), np.uint32, len(pages))
        occurrences = np.fromiter((count for counted in of_pages for count in counted.values()), np.int64, len(pages))
        order = np.lexsort((pages, codes))
        found, counts = np.unique(codes, return_counts=True)
        return cls(
            lengths,
            found,
            (counts - 1).astype(np.uint8),
            pages[order],
            np.minimum(occurrences[order], _MOST_OCCURRENCES).astype(np.uint8),
        )

    def encode(self) -> bytes:
        """The content of the segment's object."""
        header = _HEADER.pack(_MARK, TERM_FORMAT, self.pages, len(self.codes), len(self.page_indexes))
        return header + b"".join(part.astype(part.dtype.newbyteorder("<")).tobytes() for part in self._parts)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The inverse of `encode`, without a copy. Raises ValueError where it is something else."""
        if len(data) < _HEADER.size:
            raise ValueError(f"an object of {len(data)} bytes holds no terms")
        mark, format_, pages, terms_, postings = _HEADER.unpack_from(data)
        if mark != _MARK or format_ != TERM_FORMAT:
            raise ValueError(f"terms begin with {mark!r} and have format {format_}, not {TERM_FORMAT}")
        if len(data) != _HEADER.size + 4 * pages + 5 * terms_ + 2 * postings:
            raise ValueError(f"{len(data)} bytes do not hold {terms_} terms and {postings} postings of {pages} pages")
        parts, offset = [], _HEADER.size
        for dtype, count in (("<u4", pages), ("<u4", terms_), ("u1", terms_), ("u1", postings), ("u1", postings)):
            part = np.frombuffer(data, dtype, count=count, offset=offset)
            parts.append(part)
            offset += part.nbytes
        segment = cls(*parts)
        if int(segment.counts.sum(dtype=np.int64)) + terms_ != postings:
            raise ValueError(f"the counts of {terms_} terms do not sum up to {postings} postings")
        if postings and int(segment.page_indexes.max()) >= pages:
            raise ValueError(f"a posting is not of one of {pages} pages")
        return segment
