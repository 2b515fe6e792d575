"""Coarse codes: the first look of a search at a large collection, over a quarter of the codes.

A coarse code stands for RUN vectors that follow one another on a page. Each of its bits is the majority of their bits.
Coarse codes are made in memory from the sign codes of a segment when these are read. They are never stored. The scores
of pages by coarse codes say which pages are not worth a comparison of all their codes.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ingestion.vectors.sign_codes import Codes, CodeSegment

RUN: Final = 4
"""Vectors of one coarse code. With eight, three times as many pages must be kept for the same recall."""
_EVEN_BITS: Final = 0b10101010
"""Two vectors against two: half of the bits are set and half are not, so that no code tends to zeros or ones."""


def coarse_codes(segment: CodeSegment) -> CodeSegment:
    """The coarse codes of each page of `segment`, one for each RUN vectors or part of RUN.

    The last run of a page ends with the last vector, so it may overlap the run before it. A page of fewer than RUN
    vectors has one run, in which vectors occur more than once.
    """
    counts = -(-segment.counts // RUN)  # (pages,)
    first, second, third, fourth = (segment.codes[rows] for rows in _rows_of_runs(segment, counts))
    pair, other_pair = first & second, third & fourth
    at_least_three = (pair & (third | fourth)) | (other_pair & (first | second))
    at_least_two = pair | other_pair | ((first | second) & (third | fourth))
    majority: Codes = at_least_three | (at_least_two & np.uint8(_EVEN_BITS))
    return CodeSegment(segment.bits, counts, majority)


def _rows_of_runs(segment: CodeSegment, counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """(RUN, coarse codes): the positions in `segment.codes` of the vectors of each run."""
    page = np.repeat(np.arange(len(counts)), counts)  # (coarse codes,)
    vectors = segment.counts[page]
    run = np.arange(len(page)) - (np.cumsum(counts) - counts)[page]  # the number of the run on its page
    in_page = np.minimum(RUN * run, np.maximum(vectors - RUN, 0)) + np.arange(RUN)[:, None]  # (RUN, coarse codes)
    starts = np.cumsum(segment.counts) - segment.counts
    rows: NDArray[np.int64] = starts[page] + in_page % np.maximum(vectors, 1)
    return rows
