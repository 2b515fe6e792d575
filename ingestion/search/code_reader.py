"""Reads the sign codes of segments from the object store, and keeps them in a bounded cache."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextvars import Context
from dataclasses import dataclass
from typing import Final, Self

import structlog
from cachetools import TTLCache

from ingestion import metrics
from ingestion.concurrency.deadline import within_budget
from ingestion.concurrency.tasks import gather_or_cancel
from ingestion.errors import NotFound
from ingestion.model import codes_key
from ingestion.ports import BlobStore
from ingestion.retrying import retrying
from ingestion.search.coarse_codes import coarse_codes
from ingestion.search.code_scoring import pad_codes
from ingestion.search.cpu_threads import CpuThreads
from ingestion.search.segmented_cache import SegmentedCache
from ingestion.vectors.sign_codes import CodeSegment, segment_pages, segment_start

log = structlog.get_logger(__name__)

_LACKING_S: Final = 60.0
"""How long a segment without an object is not asked for again. The janitor may make it meanwhile."""
_MOST_LACKING: Final = 100_000


@dataclass(frozen=True, slots=True)
class SegmentRef:
    """A segment of a ready document in one generation. Page numbers count from 1.

    The document's first page key is part of it: another upload of the same file has other page keys.
    """

    document_id: str
    first_page_key: int
    first_page: int
    pages: int
    generation: int

    @classmethod
    def of_page(cls, document_id: str, page_keys: range, page_number: int, generation: int) -> Self:
        """The segment that holds a page of the document whose pages have `page_keys`."""
        first = segment_start(page_number)
        return cls(document_id, page_keys.start, first, len(segment_pages(first, len(page_keys))), generation)

    @property
    def key(self) -> str:
        return codes_key(self.document_id, self.first_page, self.generation)

    @property
    def page_keys(self) -> range:
        start = self.first_page_key + self.first_page - 1
        return range(start, start + self.pages)


@dataclass(frozen=True, slots=True, eq=False)
class LoadedCodes:
    """The sign codes of a segment in memory."""

    codes: CodeSegment
    """Padded, and where there are coarse codes, as they are stored: most of them are compared seldom then."""
    coarse: CodeSegment | None
    """The coarse codes, padded."""

    @classmethod
    def decode(cls, data: bytes, with_coarse: bool) -> Self:
        """From the segment's object. Raises ValueError where it is something else."""
        codes = CodeSegment.decode(data)
        return cls(codes, _padded(coarse_codes(codes))) if with_coarse else cls(_padded(codes), None)

    @property
    def size_bytes(self) -> int:
        return self.codes.size_bytes + (self.coarse.size_bytes if self.coarse else 0)


def _padded(codes: CodeSegment) -> CodeSegment:
    return CodeSegment(codes.bits, codes.counts, pad_codes(codes.codes))


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What the cache knows a segment by."""

    ref: SegmentRef
    with_coarse: bool


class CodeReader:
    """Safe to use from many tasks at once. Searches that need the same segment share one request for it."""

    def __init__(self, blobs: BlobStore, cpu_threads: CpuThreads, cache_bytes: int) -> None:
        self._blobs = blobs
        self._cpu_threads = cpu_threads
        # A page of a ready document does not change within one generation. So an entry is never out of date.
        self._cache = SegmentedCache[_Wanted, LoadedCodes](cache_bytes, lambda segment: segment.size_bytes)
        self._lacking: TTLCache[SegmentRef, None] = TTLCache(_MOST_LACKING, _LACKING_S)
        self._reading: dict[_Wanted, asyncio.Task[LoadedCodes | None]] = {}

    def is_cached(self, ref: SegmentRef) -> bool:
        """Whether `read` without coarse codes finds the segment in memory."""
        return _Wanted(ref, False) in self._cache

    async def read(self, refs: Sequence[SegmentRef], *, with_coarse: bool) -> list[LoadedCodes | None]:
        """The segments in the order of `refs`. None for one that has no object or cannot be read.

        Raises DependencyUnavailable.
        """
        asked = [_Wanted(ref, with_coarse) for ref in refs]
        found = {one: segment for one in asked if (segment := self._cache.get(one)) is not None}
        missing = [one for one in asked if one not in found and one.ref not in self._lacking]
        metrics.CODE_CACHE.labels("hit").inc(len(found))
        metrics.CODE_CACHE.labels("miss").inc(len(refs) - len(found))
        if missing:
            async with within_budget("s3"):
                segments = await gather_or_cancel(*(self._wait_for(one) for one in missing))
            found |= {one: read for one, read in zip(missing, segments, strict=True) if read is not None}
        return [found.get(one) for one in asked]

    async def _wait_for(self, wanted: _Wanted) -> LoadedCodes | None:
        task = self._reading.get(wanted)
        if task is None:
            # A context of its own: it goes on where the search that asked first has no more time.
            task = self._reading[wanted] = asyncio.create_task(self._read(wanted), context=Context())
            task.add_done_callback(lambda done: self._ended(wanted, done))
        return await asyncio.shield(task)

    def _ended(self, wanted: _Wanted, task: asyncio.Task[LoadedCodes | None]) -> None:
        del self._reading[wanted]
        if not task.cancelled():
            task.exception()  # raised to those that wait; without any, it must not be reported as never retrieved

    async def _read(self, wanted: _Wanted) -> LoadedCodes | None:
        ref = wanted.ref
        try:
            data = await retrying(self._blobs.get, ref.key)
            segment = await self._cpu_threads.run(LoadedCodes.decode, data, wanted.with_coarse)
            if segment.codes.pages != ref.pages:
                raise ValueError(f"they are of {segment.codes.pages} pages, not of {ref.pages}")
        except NotFound:
            self._lacking[ref] = None
            return None
        except ValueError as error:
            log.warning("sign codes cannot be read", key=ref.key, cause=str(error))
            self._lacking[ref] = None
            return None
        self._cache.put(wanted, segment)
        metrics.CODE_CACHE_BYTES.set(self._cache.bytes)
        return segment
