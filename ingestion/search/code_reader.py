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
from ingestion.search.code_scoring import pad_codes
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


class CodeReader:
    """Safe to use from many tasks at once. Searches that need the same segment share one request for it."""

    def __init__(self, blobs: BlobStore, cache_bytes: int) -> None:
        self._blobs = blobs
        # A page of a ready document does not change within one generation. So an entry is never out of date.
        self._cache = SegmentedCache[SegmentRef, CodeSegment](cache_bytes, lambda segment: segment.size_bytes)
        self._lacking: TTLCache[SegmentRef, None] = TTLCache(_MOST_LACKING, _LACKING_S)
        self._reading: dict[SegmentRef, asyncio.Task[CodeSegment | None]] = {}

    def is_cached(self, ref: SegmentRef) -> bool:
        return ref in self._cache

    async def read(self, refs: Sequence[SegmentRef]) -> list[CodeSegment | None]:
        """The segments in the order of `refs`, with padded codes. None for one that has no object or cannot be read.

        Raises DependencyUnavailable.
        """
        found = {ref: segment for ref in refs if (segment := self._cache.get(ref)) is not None}
        missing = [ref for ref in refs if ref not in found and ref not in self._lacking]
        metrics.CODE_CACHE.labels("hit").inc(len(found))
        metrics.CODE_CACHE.labels("miss").inc(len(refs) - len(found))
        if missing:
            async with within_budget("s3"):
                segments = await gather_or_cancel(*(self._wait_for(ref) for ref in missing))
            found |= {ref: read for ref, read in zip(missing, segments, strict=True) if read is not None}
        return [found.get(ref) for ref in refs]

    async def _wait_for(self, ref: SegmentRef) -> CodeSegment | None:
        task = self._reading.get(ref)
        if task is None:
            # A context of its own: it goes on where the search that asked first has no more time.
            task = self._reading[ref] = asyncio.create_task(self._read(ref), context=Context())
            task.add_done_callback(lambda done: self._ended(ref, done))
        return await asyncio.shield(task)

    def _ended(self, ref: SegmentRef, task: asyncio.Task[CodeSegment | None]) -> None:
        del self._reading[ref]
        if not task.cancelled():
            task.exception()  # raised to those that wait; without any, it must not be reported as never retrieved

    async def _read(self, ref: SegmentRef) -> CodeSegment | None:
        try:
            segment = CodeSegment.decode(await retrying(self._blobs.get, ref.key))
            if segment.pages != ref.pages:
                raise ValueError(f"they are of {segment.pages} pages, not of {ref.pages}")
            segment = CodeSegment(segment.bits, segment.counts, pad_codes(segment.codes))
        except NotFound:
            self._lacking[ref] = None
            return None
        except ValueError as error:
            log.warning("sign codes cannot be read", key=ref.key, cause=str(error))
            self._lacking[ref] = None
            return None
        self._cache.put(ref, segment)
        metrics.CODE_CACHE_BYTES.set(self._cache.bytes)
        return segment
