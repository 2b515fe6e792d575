"""Exact MaxSim over candidate pages, from the vectors in the object store and a bounded cache of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ingestion import metrics
from ingestion.catalogue.generations import Generation
from ingestion.errors import WorkerFault
from ingestion.maxsim import maxsim_of_blobs
from ingestion.model import Vectors
from ingestion.ports import BlobStore
from ingestion.search.byte_budget import ByteBudget
from ingestion.search.candidates import Candidate
from ingestion.search.cpu_threads import CpuThreads
from ingestion.search.frequency_cache import FrequencyCache
from ingestion.search.stages import search_stage
from ingestion.vectors.blob_reader import VectorBlobRef, VectorBlobs

_FIRST_GUESS_BYTES: Final = 256 * 1024
"""The assumed size of a page's blob before one has been read: 700 vectors of 384 bytes."""
_WEIGHT: Final = 0.05
"""The weight of the latest blob in the moving mean of blob sizes."""

PageBlob = tuple[int, VectorBlobRef]
"""A page key, and where the page's vectors are."""


class Reranker:
    """Scores pages with all of their vectors.

    A cache holds at most `cache_bytes` of blobs. Pages that are being read or scored take at most `limit_bytes` more;
    a rerank that would exceed that waits. A CPU thread is used only once all pages have been read.
    """

    def __init__(self, blobs: BlobStore, cpu_threads: CpuThreads, *, cache_bytes: int, limit_bytes: int) -> None:
        self._vector_blobs = VectorBlobs(blobs)
        self._cpu_threads = cpu_threads
        self._budget = ByteBudget(limit_bytes)
        self._mean_bytes = 0.0
        # Every upload gets new page keys, and a page of a ready document does not change within one generation. So an
        # entry is never out of date.
        self._cache = FrequencyCache[PageBlob, bytes](cache_bytes, len)

    async def rank(
        self, query: Vectors, candidates: Sequence[Candidate], generation: Generation
    ) -> list[tuple[Candidate, float]]:
        """The candidates with their scores, best first; those without vectors are left out.

        Raises NotFound where a page's vectors are gone, WorkerFault where they cannot be read.
        """
        keys = [
            (page.page_key, VectorBlobRef(page.document.id, page.page_number, generation.number))
            for page in candidates
        ]
        return ranked(candidates, await self.scores(query, keys))

    async def scores(self, query: Vectors, keys: Sequence[PageBlob]) -> NDArray[np.float32]:
        """The scores of pages, (pages,), -inf for one without vectors. Raises as `rank`."""
        async with self._budget.reserve(self._expected_bytes(keys)) as reserved:
            with search_stage("blobs"):
                blobs = await self._fetch(keys)
            reserved.resize(sum(map(len, blobs)))
            metrics.SEARCH_BLOB_BYTES.set(self._budget.reserved_bytes)
            with search_stage("maxsim"):
                scores = await self._cpu_threads.run(_scores, query, blobs)
        metrics.SEARCH_BLOB_BYTES.set(self._budget.reserved_bytes)
        metrics.STAGE_PAGES.labels("exact", "in").inc(len(keys))
        return scores

    def _expected_bytes(self, keys: Sequence[PageBlob]) -> int:
        kept = [blob for key in keys if (blob := self._cache.peek(key)) is not None]
        return sum(map(len, kept)) + int((len(keys) - len(kept)) * (self._mean_bytes or _FIRST_GUESS_BYTES))

    async def _fetch(self, keys: Sequence[PageBlob]) -> list[bytes]:
        """The blobs of the candidates, from the cache or from the object store."""
        found = {key: blob for key in keys if (blob := self._cache.get(key)) is not None}
        missing = [key for key in keys if key not in found]
        metrics.PAGE_CACHE.labels("hit").inc(len(found))
        metrics.PAGE_CACHE.labels("miss").inc(len(missing))
        for key, blob in zip(missing, await self._vector_blobs.read([ref for _, ref in missing]), strict=True):
            found[key] = blob
            self._cache.put(key, blob)
            self._mean_bytes += (_WEIGHT if self._mean_bytes else 1) * (len(blob) - self._mean_bytes)
        metrics.PAGE_CACHE_BYTES.set(self._cache.bytes)
        return [found[key] for key in keys]


def ranked(candidates: Sequence[Candidate], scores: NDArray[np.float32]) -> list[tuple[Candidate, float]]:
    """The candidates with their scores, best first; those without vectors are left out."""
    order = np.argsort(-scores, kind="stable")
    return [(candidates[i], float(scores[i])) for i in order if np.isfinite(scores[i])]


def _scores(query: Vectors, blobs: Sequence[bytes]) -> NDArray[np.float32]:
    """MaxSim of each page, (pages,)."""
    try:
        return maxsim_of_blobs(query, blobs)
    except ValueError as error:
        raise WorkerFault(f"a page's vectors cannot be read: {error}", stage="search") from error
