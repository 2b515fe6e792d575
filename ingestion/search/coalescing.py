"""Request coalescing: searches that arrive while the ANN index is busy share the next request to it.

Each request has a fixed cost: a round trip at best, and far more on a server that reads every row of the collection.
So a request carries the vectors of several searches. MAX_REQUEST_ROWS bounds a request and its answer; a search that
asks for more rows is sent in parts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from ingestion import metrics
from ingestion.concurrency.deadline import budget, remaining_s, within_budget
from ingestion.concurrency.shared_calls import SharedCalls
from ingestion.model import Vectors
from ingestion.ports import Neighbours, VectorStore
from ingestion.search.cpu_threads import CpuThreads
from ingestion.search.scoring import PageScores, combined, page_scores

MAX_REQUEST_ROWS: Final = 51_200
"""Rows of one request: 256 tokens with 200 rows each. A row takes 12 bytes of an answer."""


def _end_of_budget() -> float | None:
    left_s = remaining_s()
    return None if left_s is None else time.monotonic() + left_s


@dataclass(frozen=True, slots=True)
class _Asked:
    index: str
    query: Vectors
    limit: int
    stable_for_s: float
    within: Sequence[range] | None = None
    ends_at: float | None = field(default_factory=_end_of_budget)
    """When its caller stops waiting; None where the caller has no budget of time."""

    @property
    def rows(self) -> int:
        return len(self.query) * self.limit


class SearchCoalescer:
    """Sends at most `requests` requests to the index at a time. Searches are sent in the order of their arrival."""

    def __init__(self, vectors: VectorStore, requests: int, cpu_threads: CpuThreads) -> None:
        self._vectors = vectors
        self._cpu_threads = cpu_threads
        self._calls = SharedCalls(self._request, at_once=requests, fits=_fits)

    async def search(
        self,
        index: str,
        query: Vectors,
        limit: int,
        stable_for_s: float = 0.0,
        within: Sequence[range] | None = None,
    ) -> PageScores:
        """The pages of the `limit` rows nearest to each token. `query` is (query_tokens, dim).

        `within`: only rows of these page keys. Searches share a request where it is the same object.

        Raises what `VectorStore.search` raises.
        """
        tokens = max(1, MAX_REQUEST_ROWS // limit)
        starts = range(0, max(len(query), 1), tokens)
        parts = [_Asked(index, query[start : start + tokens], limit, stable_for_s, within) for start in starts]
        answers = self._calls.submit(parts)
        try:
            async with within_budget("milvus"):
                found = await asyncio.gather(*answers)
        finally:
            for answer in answers:  # after an error, no request is sent for the other parts
                answer.cancel()
        return found[0] if len(found) == 1 else await self._cpu_threads.run(combined, found)

    async def _request(self, together: Sequence[_Asked]) -> list[PageScores]:
        metrics.ANN_SHARED.observe(len(together))
        first = together[0]
        vectors = np.concatenate([asked.query for asked in together])  # (tokens of all, dim)
        stable_for_s = min(asked.stable_for_s for asked in together)
        with _longest_budget(together):
            rows = await self._vectors.search(
                first.index, vectors, first.limit, stable_for_s=stable_for_s, within=first.within
            )
        return await self._cpu_threads.run(_scored, rows, [len(asked.query) for asked in together], first.limit)


def _fits(together: Sequence[_Asked], asked: _Asked) -> bool:
    """Whether the search has the index, limit and pages of the others, and fits into one request with them."""
    first = together[0]
    is_alike = (asked.index, asked.limit) == (first.index, first.limit) and asked.within is first.within
    return is_alike and sum(one.rows for one in together) + asked.rows <= MAX_REQUEST_ROWS


def _longest_budget(together: Sequence[_Asked]) -> AbstractContextManager[None]:
    """The budget of the caller that waits longest."""
    ends = [asked.ends_at for asked in together if asked.ends_at is not None]
    return budget(max(ends) - time.monotonic()) if len(ends) == len(together) else nullcontext()


def _scored(rows: Neighbours, tokens: Sequence[int], limit: int) -> list[PageScores]:
    """The page scores of each search that shared the request. `tokens` are their numbers of tokens."""
    ends = np.cumsum(tokens).tolist()
    return [page_scores(rows.of_tokens(end - count, end), limit) for count, end in zip(tokens, ends, strict=True)]
