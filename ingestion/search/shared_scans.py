"""Shared scans: searches of the same collection that arrive while codes are scored share the next pass over them.

A pass over sign codes takes nearly the same time for one query token as for eight, because it reads as many codes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ingestion import metrics
from ingestion.concurrency.deadline import within_budget
from ingestion.concurrency.tasks import gather_or_cancel
from ingestion.model import Vectors
from ingestion.search.code_scoring import CodeQueries, scan_scores
from ingestion.search.cpu_threads import CpuThreads
from ingestion.vectors.sign_codes import CodeSegment

_AT_ONCE: Final = 2
"""Passes at a time. Each uses all threads; a second one keeps them busy while the first one ends."""
_MOST_TOKENS: Final = 16
"""Tokens of the queries that share a pass. A longer query has a pass of its own."""
_GROUP_PAGES: Final = 512
"""Pages that are scored in one go, on one thread."""


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    segments: Sequence[CodeSegment]
    key: object
    query: Vectors
    answer: asyncio.Future[NDArray[np.float32]] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class SharedScans:
    """Safe to use from many tasks at once. Searches are answered in the order of their arrival."""

    def __init__(self, cpu_threads: CpuThreads) -> None:
        self._cpu_threads = cpu_threads
        self._free = _AT_ONCE
        self._waiting: list[_Asked] = []
        self._running: set[asyncio.Task[None]] = set()

    async def scores(self, key: object, segments: Sequence[CodeSegment], query: Vectors) -> NDArray[np.float32]:
        """The coarse scores of all pages of `segments`, (pages,). Equal keys (by identity) mean equal segments.

        Raises ValueError where the codes have another width than the query, DependencyUnavailable once the caller's
        budget of time is spent.
        """
        asked = _Asked(segments, key, query)
        self._waiting.append(asked)
        self._start()
        async with within_budget("search"):
            return await asked.answer

    def _start(self) -> None:
        while self._free and (together := self._take()):
            task = asyncio.create_task(self._pass(together), context=Context())
            self._free -= 1
            self._running.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._free += 1
        self._start()

    def _take(self) -> list[_Asked]:
        """The search that has waited longest, and others of the same pages while they have few tokens together."""
        taken, left, tokens = list[_Asked](), list[_Asked](), 0
        for asked in self._waiting:
            if asked.answer.done():  # its caller does not wait any more
                continue
            is_alike = not taken or asked.key is taken[0].key
            if not taken or (is_alike and tokens + len(asked.query) <= _MOST_TOKENS):
                taken.append(asked)
                tokens += len(asked.query)
            else:
                left.append(asked)
        self._waiting = left
        return taken

    async def _pass(self, together: Sequence[_Asked]) -> None:
        metrics.SCANS_SHARED.observe(len(together))
        try:
            queries = await self._cpu_threads.run(CodeQueries.of, [asked.query for asked in together], 1)
            groups = _groups(together[0].segments)
            parts = await gather_or_cancel(*(self._cpu_threads.run(scan_scores, queries, group) for group in groups))
            scores = np.concatenate(parts)  # (pages, queries)
        except BaseException as error:
            for asked in together:
                if not asked.answer.done():
                    asked.answer.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        for number, asked in enumerate(together):
            if not asked.answer.done():
                asked.answer.set_result(scores[:, number])


def _groups(segments: Sequence[CodeSegment]) -> Iterator[Sequence[CodeSegment]]:
    start = pages = 0
    for end, segment in enumerate(segments, 1):
        pages += segment.pages
        if pages >= _GROUP_PAGES or end == len(segments):
            yield segments[start:end]
            start, pages = end, 0
