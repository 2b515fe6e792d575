"""Shared scans: searches of the same collection that arrive while codes are scored share the next pass over them.

A pass over sign codes takes nearly the same time for one query token as for eight, because it reads as many codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ingestion import metrics
from ingestion.concurrency.deadline import within_budget
from ingestion.concurrency.shared_calls import SharedCalls
from ingestion.concurrency.tasks import gather_or_cancel
from ingestion.model import Vectors
from ingestion.search.code_scoring import CodeQueries, scan_scores, segment_groups
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
    key: object
    segments: Sequence[CodeSegment]
    query: Vectors


class SharedScans:
    """Safe to use from many tasks at once."""

    def __init__(self, cpu_threads: CpuThreads) -> None:
        self._cpu_threads = cpu_threads
        self._calls = SharedCalls(self._pass, at_once=_AT_ONCE, fits=_fits)

    async def scores(self, key: object, segments: Sequence[CodeSegment], query: Vectors) -> NDArray[np.float32]:
        """The coarse scores of all pages of `segments`, (pages,). Equal keys (by identity) mean equal segments.

        Raises ValueError where the codes have another width than the query, DependencyUnavailable once the caller's
        budget of time is spent.
        """
        (answer,) = self._calls.submit([_Asked(key, segments, query)])
        async with within_budget("search"):
            return await answer

    async def _pass(self, together: Sequence[_Asked]) -> list[NDArray[np.float32]]:
        metrics.SCANS_SHARED.observe(len(together))
        queries = await self._cpu_threads.run(CodeQueries.of, [asked.query for asked in together], 1)
        groups = segment_groups(together[0].segments, _GROUP_PAGES)
        parts = await gather_or_cancel(*(self._cpu_threads.run(scan_scores, queries, group) for group in groups))
        return list(np.concatenate(parts).T)


def _fits(together: Sequence[_Asked], asked: _Asked) -> bool:
    """Whether the search is of the same pages, and has few tokens together with the others."""
    tokens = sum(len(one.query) for one in together) + len(asked.query)
    return asked.key is together[0].key and tokens <= _MOST_TOKENS
