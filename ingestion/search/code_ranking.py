"""Ranks pages by sign codes: reads the codes, scores them in threads, and names the best pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ingestion import metrics
from ingestion.concurrency.tasks import gather_or_cancel
from ingestion.errors import WorkerFault
from ingestion.model import Vectors
from ingestion.search.code_reader import CodeReader, SegmentRef
from ingestion.search.code_scoring import REFINED_PLANES, CodeQueries, best_first, joined_scores
from ingestion.search.cpu_threads import CpuThreads
from ingestion.search.shared_scans import SharedScans
from ingestion.search.stages import search_stage
from ingestion.vectors.sign_codes import Codes, CodeSegment

_FIRST_GUESS_BYTES: Final = 40 * 1024
"""The assumed size of a page's codes before any have been read: 640 vectors of 64 bytes."""
_WEIGHT: Final = 0.05
"""The weight of the latest segment in the moving mean of sizes."""


@dataclass(frozen=True, slots=True)
class ShownPage:
    """A page that the ANN index has shown, and the segment of its sign codes. `segment` is None if it has none."""

    page_key: int
    segment: SegmentRef | None


@dataclass(frozen=True, slots=True)
class ShownRanking:
    """`ranked`: the best pages with sign codes, best first. `without_codes`: the others, in the order of the index."""

    ranked: Sequence[int]
    without_codes: Sequence[int]


class CodeRanker:
    """Safe to use from many tasks at once."""

    def __init__(self, reader: CodeReader, cpu_threads: CpuThreads, read_bytes: int) -> None:
        """`read_bytes`: the most that one search for shown pages reads from the object store."""
        self._reader = reader
        self._cpu_threads = cpu_threads
        self._read_bytes = read_bytes
        self._scans = SharedScans(cpu_threads)
        self.mean_page_bytes = float(_FIRST_GUESS_BYTES)

    async def rank_all(
        self, query: Vectors, segments: Sequence[SegmentRef], *, refined: int, most: int
    ) -> list[int] | None:
        """The keys of the `most` best pages of `segments`, best first. None where codes of a segment are lacking.

        The `refined` best by Hamming distance are ranked once more with more planes. Raises DependencyUnavailable,
        WorkerFault where codes have another width than the query.
        """
        with search_stage("codes"):
            read = await self._reader.read(segments)
        found = [segment for segment in read if segment is not None]
        if len(found) < len(segments):
            return None
        if not found:
            return []
        self._note(found)
        with search_stage("code_scores"), _translated():
            scores = await self._scans.scores(segments, found, query)
        best = best_first(scores, refined)
        keys, codes = _pages_at(segments, found, best)
        _count(len(scores), min(len(best), most))
        return await self._refine(query, keys, codes, most)

    async def rank_shown(self, query: Vectors, pages: Sequence[ShownPage], *, refined: int, most: int) -> ShownRanking:
        """As `rank_all`, for `pages` in the order in which the index ranks them.

        Where their codes are more than one search may read, the last pages are left out.
        """
        wanted = self._affordable(pages)
        refs = list(dict.fromkeys(page.segment for page in wanted if page.segment is not None))
        with search_stage("codes"):
            read = dict(zip(refs, await self._reader.read(refs), strict=True))
        keys, codes, without = list[int](), list[Codes](), list[int]()
        for page in wanted:
            segment = None if page.segment is None else read[page.segment]
            if page.segment is None or segment is None:
                without.append(page.page_key)
            else:
                keys.append(page.page_key)
                codes.append(segment.of_page(page.page_key - page.segment.page_keys.start))
        self._note([segment for segment in read.values() if segment is not None])
        if len(keys) > refined:
            with search_stage("code_scores"):
                scores = await self._scored(query, codes, planes=1)
            best = best_first(scores, refined).tolist()
            keys, codes = [keys[i] for i in best], [codes[i] for i in best]
        ranked = await self._refine(query, keys, codes, most)
        _count(len(wanted) - len(without), len(ranked))
        return ShownRanking(ranked, without)

    async def _refine(self, query: Vectors, keys: Sequence[int], codes: Sequence[Codes], most: int) -> list[int]:
        if not keys:
            return []
        with search_stage("code_scores"):
            scores = await self._scored(query, codes, REFINED_PLANES)
        order = best_first(scores, most)
        return [keys[i] for i in order if np.isfinite(scores[i])]

    def _affordable(self, pages: Sequence[ShownPage]) -> list[ShownPage]:
        """The first pages whose codes are in memory, or are little enough to be read."""
        left_bytes = float(self._read_bytes)
        taken = set[SegmentRef]()
        wanted = []
        for page in pages:
            ref = page.segment
            if ref is not None and ref not in taken and not self._reader.is_cached(ref):
                size = ref.pages * self.mean_page_bytes
                if taken and size > left_bytes:
                    continue
                left_bytes -= size
            if ref is not None:
                taken.add(ref)
            wanted.append(page)
        metrics.SEARCH_PAGES_LEFT_OUT.inc(len(pages) - len(wanted))
        return wanted

    def _note(self, read: Sequence[CodeSegment]) -> None:
        for segment in read[-1:]:
            if segment.pages:
                self.mean_page_bytes += _WEIGHT * (segment.size_bytes / segment.pages - self.mean_page_bytes)

    async def _scored(self, query: Vectors, codes: Sequence[Codes], planes: int) -> NDArray[np.float32]:
        with _translated():
            half = len(codes) // 2  # on two threads
            parts = [part for part in (codes[:half], codes[half:]) if part]
            scores = await gather_or_cancel(
                *(self._cpu_threads.run(_scores_of, query, part, planes) for part in parts)
            )
            return np.concatenate(scores)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise WorkerFault(f"a page's sign codes cannot be used: {error}", stage="search") from error


def _scores_of(query: Vectors, codes: Sequence[Codes], planes: int) -> NDArray[np.float32]:
    return joined_scores(CodeQueries.of([query], planes), codes)[:, 0]


def _pages_at(
    refs: Sequence[SegmentRef], read: Sequence[CodeSegment], positions: NDArray[np.intp]
) -> tuple[list[int], list[Codes]]:
    """Keys and codes of the pages at `positions`, which count the pages of all segments one after another."""
    ends = np.cumsum([segment.pages for segment in read])
    keys, codes = list[int](), list[Codes]()
    for position, at in zip(positions.tolist(), np.searchsorted(ends, positions, side="right").tolist(), strict=True):
        number = position - int(ends[at]) + read[at].pages
        keys.append(refs[at].page_keys[number])
        codes.append(read[at].of_page(number))
    return keys, codes


def _count(ranked: int, kept: int) -> None:
    metrics.STAGE_PAGES.labels("codes", "in").inc(ranked)
    metrics.STAGE_PAGES.labels("codes", "out").inc(kept)
