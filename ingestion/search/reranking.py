"""Exact MaxSim over candidate pages, from the vectors in the object store and a bounded cache of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ingestion import metrics
from ingestion.errors import WorkerFault
from ingestion.generations import Generation
from ingestion.maxsim import maxsim_of_blobs
from ingestion.model import Vectors, vectors_key
from ingestion.ports import BlobStore
from ingestion.search.bounded import BoundedCache
from ingestion.search.candidates import Candidate

_AT_ONCE: Final = 2
"""Queries reranked side by side: more would share the same cores, and each brings pages into memory."""


class Reranker:
    """Scores pages with all of their vectors. The pages' blobs are kept as they are, at most `cache_bytes` of them."""

    def __init__(self, blobs: BlobStore, cache_bytes: int) -> None:
        self._blobs = blobs
        self._turn = asyncio.Semaphore(_AT_ONCE)  # which lets in who came first
        # The page key is another one after every upload, and within one generation a page of a ready document stays
        # as it is, so that nothing in here is ever out of date.
        self._kept: BoundedCache[tuple[int, str], bytes] = BoundedCache(cache_bytes)

    async def rank(
        self, query: Vectors, candidates: Sequence[Candidate], generation: Generation
    ) -> list[tuple[Candidate, float]]:
        """The candidates with their scores, best first; those without vectors are left out.

        Raises NotFound where a page's vectors are gone, WorkerFault where they cannot be read.
        """
        async with self._turn:
            with metrics.SEARCH.labels("blobs").time():
                blobs = await self._fetch(candidates, generation)
            with metrics.SEARCH.labels("maxsim").time():
                scores = await asyncio.to_thread(_scores, query, blobs)
        order = np.argsort(-scores, kind="stable")
        return [(candidates[i], float(scores[i])) for i in order if np.isfinite(scores[i])]

    async def _fetch(self, candidates: Sequence[Candidate], generation: Generation) -> list[bytes]:
        """The blobs of the candidates, those that are not at hand side by side."""
        keys = [
            (page.page_key, vectors_key(page.document.id, page.page_number, generation.number)) for page in candidates
        ]
        found = {key: blob for key in keys if (blob := self._kept.get(key)) is not None}
        missing = [key for key in keys if key not in found]
        metrics.PAGE_CACHE.labels("hit").inc(len(found))
        metrics.PAGE_CACHE.labels("miss").inc(len(missing))
        for key, blob in zip(missing, await self._blobs.get_many([name for _, name in missing]), strict=True):
            found[key] = blob
            self._kept.put(key, blob, len(blob))
        metrics.PAGE_CACHE_BYTES.set(self._kept.cost)
        return [found[key] for key in keys]


def _scores(query: Vectors, blobs: Sequence[bytes]) -> NDArray[np.float32]:
    """MaxSim of each page, (pages,)."""
    try:
        return maxsim_of_blobs(query, blobs)
    except ValueError as error:
        raise WorkerFault(f"a page's vectors cannot be read: {error}", stage="search") from error
