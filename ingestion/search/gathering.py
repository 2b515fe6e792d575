"""Searches that come while the ANN index is busy share the next request to it.

A request has a price of its own, whatever it asks: a round trip at best, and on a server that looks at every row of
the collection far more than the search itself. So a request carries the vectors of everybody who waits.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

import numpy as np

from ingestion import metrics
from ingestion.model import Vectors
from ingestion.ports import VectorStore

Neighbours = list[list[tuple[int, float]]]
"""For each query token the nearest rows as (page_key, inner product), best first."""

_MOST_VECTORS: Final = 1024
"""In one request, so that no answer becomes large. A query with more than that goes alone."""


@dataclass(frozen=True, slots=True)
class _Asked:
    index: str
    query: Vectors
    limit: int
    unchanged_s: float
    answer: asyncio.Future[Neighbours] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class GatheredSearch:
    """The index, asked by at most `requests` requests at a time. Who came first is answered first."""

    def __init__(self, vectors: VectorStore, requests: int) -> None:
        self._vectors = vectors
        self._free = requests
        self._waiting: list[_Asked] = []
        self._running: set[asyncio.Task[None]] = set()

    async def search(self, index: str, query: Vectors, limit: int, unchanged_s: float = 0.0) -> Neighbours:
        """As `VectorStore.search`, whose errors it raises. `query` is (query_tokens, dim)."""
        asked = _Asked(index, query, limit, unchanged_s)
        self._waiting.append(asked)
        self._start()
        return await asked.answer

    def _start(self) -> None:
        while self._free and (together := self._take()):
            task = asyncio.create_task(self._request(together))
            self._free -= 1
            self._running.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._free += 1
        self._start()

    def _take(self) -> list[_Asked]:
        """The one that has waited longest, and those of the same index and limit that go along."""
        taken, left, vectors = list[_Asked](), list[_Asked](), 0
        for asked in self._waiting:
            if asked.answer.done():  # its caller has gone
                continue
            first = taken[0] if taken else asked
            is_alike = (asked.index, asked.limit) == (first.index, first.limit)
            if not taken or (is_alike and vectors + len(asked.query) <= _MOST_VECTORS):
                taken.append(asked)
                vectors += len(asked.query)
            else:
                left.append(asked)
        self._waiting = left
        return taken

    async def _request(self, together: list[_Asked]) -> None:
        metrics.ANN_SHARED.observe(len(together))
        first = together[0]
        try:
            vectors = np.concatenate([asked.query for asked in together])  # (tokens of all, dim)
            unchanged_s = min(asked.unchanged_s for asked in together)
            rows = iter(await self._vectors.search(first.index, vectors, first.limit, unchanged_s=unchanged_s))
        except BaseException as error:
            for asked in together:
                if not asked.answer.done():
                    asked.answer.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        for asked in together:
            found = list(islice(rows, len(asked.query)))
            if not asked.answer.done():
                asked.answer.set_result(found)
