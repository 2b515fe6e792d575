"""Reads objects that hold what search needs of a segment of pages, and keeps them in a bounded cache."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Sequence
from contextvars import Context
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import structlog
from cachetools import TTLCache
from prometheus_client import Counter, Gauge

from ingestion.concurrency.deadline import within_budget
from ingestion.concurrency.tasks import gather_or_cancel
from ingestion.errors import NotFound
from ingestion.ports import BlobStore
from ingestion.retrying import retrying
from ingestion.search.segmented_cache import SegmentedCache

log = structlog.get_logger(__name__)

R = TypeVar("R", bound=Hashable)
S = TypeVar("S")

_LACKING_S: Final = 60.0
"""How long a segment without an object is not asked for again. The janitor may make it meanwhile."""
_MOST_LACKING: Final = 100_000


@dataclass(frozen=True)
class SegmentKind(Generic[R, S]):
    """What is read. `decode` raises ValueError where an object is not that of the segment."""

    what: str
    key_of: Callable[[R], str]
    decode: Callable[[R, bytes], S]
    size_of: Callable[[S], int]
    outcomes: Counter
    """Counts hits and misses of the cache."""
    bytes: Gauge
    """The bytes in the cache."""


class SegmentReader(Generic[R, S]):
    """Safe to use from many tasks at once. Searches that need the same segment share one request for it.

    A page of a ready document does not change within one generation. So an entry of the cache is never out of date.
    """

    def __init__(self, blobs: BlobStore, cache_bytes: int, kind: SegmentKind[R, S]) -> None:
        self._blobs = blobs
        self._kind = kind
        self._cache = SegmentedCache[R, S](cache_bytes, kind.size_of)
        self._lacking: TTLCache[R, None] = TTLCache(_MOST_LACKING, _LACKING_S)
        self._reading: dict[R, asyncio.Task[S | None]] = {}

    def is_cached(self, ref: R) -> bool:
        return ref in self._cache

    async def read(self, refs: Sequence[R]) -> list[S | None]:
        """The segments in the order of `refs`. None for one that has no object or cannot be read.

        Raises DependencyUnavailable.
        """
        found = {ref: segment for ref in refs if (segment := self._cache.get(ref)) is not None}
        missing = [ref for ref in refs if ref not in found and ref not in self._lacking]
        self._kind.outcomes.labels("hit").inc(len(found))
        self._kind.outcomes.labels("miss").inc(len(refs) - len(found))
        if missing:
            async with within_budget("s3"):
                segments = await gather_or_cancel(*(self._wait_for(ref) for ref in missing))
            found |= {ref: read for ref, read in zip(missing, segments, strict=True) if read is not None}
        return [found.get(ref) for ref in refs]

    async def _wait_for(self, ref: R) -> S | None:
        task = self._reading.get(ref)
        if task is None:
            # A context of its own: it goes on where the search that asked first has no more time.
            task = self._reading[ref] = asyncio.create_task(self._read(ref), context=Context())
            task.add_done_callback(lambda done: self._ended(ref, done))
        return await asyncio.shield(task)

    def _ended(self, ref: R, task: asyncio.Task[S | None]) -> None:
        del self._reading[ref]
        if not task.cancelled():
            task.exception()  # raised to those that wait; without any, it must not be reported as never retrieved

    async def _read(self, ref: R) -> S | None:
        key = self._kind.key_of(ref)
        try:
            segment = self._kind.decode(ref, await retrying(self._blobs.get, key))
        except NotFound:
            self._lacking[ref] = None
            return None
        except ValueError as error:
            log.warning(f"{self._kind.what} cannot be read", key=key, cause=str(error))
            self._lacking[ref] = None
            return None
        self._cache.put(ref, segment)
        self._kind.bytes.set(self._cache.bytes)
        return segment
