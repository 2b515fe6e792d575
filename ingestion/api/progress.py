"""How the processing of documents goes on, as streams show it: records of MongoDB, finer reports from Redis."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from heapq import nsmallest
from typing import Any, Final

from cachetools import LRUCache

from ingestion.api.views import DocumentView, OutageView, ProgressView
from ingestion.errors import DependencyUnavailable
from ingestion.model import UNFINISHED, Document, DocumentState
from ingestion.ports import DocumentFeed, Progress

MOST_WAITING: Final = 10_000
"""`waiting_before` counts no further."""
_MOST_DOCUMENTS: Final = 10_000
"""The documents of one stream whose earlier progress is remembered."""
_PLACE_VALID_S: Final = 3.0
_MOST_COUNTED: Final = 20
"""The places in the queue that are counted for one look: each is a request that reads up to MOST_WAITING keys."""
_WAITING: Final = (DocumentState.RECEIVED, DocumentState.QUEUED)
_LEASE_MARGIN_S: Final = 10.0
"""The clocks of this machine and of the database may differ by so much."""
_ABANDONED: Final = "its worker has stopped; the janitor queues the document again"


@dataclass(slots=True)
class _Seen:
    """What a stream has shown of one upload."""

    first_page_key: int
    began_s: float
    began_pages: int
    pages_done: int
    seconds_left: int | None = None
    waiting_before: int | None = None
    counted_at_s: float = -math.inf


class ProgressReader:
    """Makes the views of one stream. Within a stream, the number of stored pages of an upload never falls."""

    def __init__(self, feed: DocumentFeed, progress: Progress, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._feed = feed
        self._progress = progress
        self._clock = clock
        self._seen: LRUCache[str, _Seen] = LRUCache(_MOST_DOCUMENTS)

    async def views(self, documents: Sequence[Document]) -> list[ProgressView]:
        """The views of documents, in their order. A server that does not answer leaves its part out."""
        processed = [one.id for one in documents if one.state in UNFINISHED]
        tasks = dict(zip(processed, await self._progress.read_many(processed), strict=True))
        outages = await self._progress.outages() if processed else {}
        waits_for = [OutageView(dependency=name, since=since) for name, since in sorted(outages.items())]
        await self._count_waiting(documents)
        return [self._view(one, tasks.get(one.id, {}), waits_for) for one in documents]

    def _view(self, document: Document, task: dict[str, str], waits_for: list[OutageView]) -> ProgressView:
        seen = self._seen_of(document)
        if document.state is DocumentState.PROCESSING:
            self._count_pages(seen, document, _non_negative(task.get("processed")))
        is_unfinished = document.state in UNFINISHED
        shown = replace(document, pages_done=max(seen.pages_done, document.pages_done))
        return ProgressView(
            **DocumentView.of(shown).model_dump(),
            stage=document.stage,
            message=_message(document, task),
            waiting_before=seen.waiting_before if _is_waiting(document) else None,
            waits_for=waits_for if is_unfinished else [],
            seconds_left=seen.seconds_left if document.state is DocumentState.PROCESSING else None,
        )

    def _seen_of(self, document: Document) -> _Seen:
        seen = self._seen.get(document.id)
        if seen is None or seen.first_page_key != document.first_page_key:
            seen = _Seen(document.first_page_key, self._clock(), document.pages_done, document.pages_done)
            self._seen[document.id] = seen
        return seen

    def _count_pages(self, seen: _Seen, document: Document, reported: int) -> None:
        """`reported` is of Redis, where an earlier upload or attempt may have written it."""
        done = min(max(document.pages_done, reported), document.pages)
        if done <= seen.pages_done:
            return
        seen.pages_done = done
        pages_per_s = (done - seen.began_pages) / max(self._clock() - seen.began_s, 0.001)
        seen.seconds_left = round((document.pages - done) / pages_per_s)

    async def _count_waiting(self, documents: Sequence[Document]) -> None:
        """Count anew after some seconds only, and a few places at once, the oldest count first."""
        now_s = self._clock()
        waiting = [(self._seen_of(one), one) for one in documents if _is_waiting(one)]
        due = [(seen, one) for seen, one in waiting if now_s - seen.counted_at_s >= _PLACE_VALID_S]
        for seen, one in nsmallest(_MOST_COUNTED, due, key=lambda pair: pair[0].counted_at_s):
            seen.counted_at_s = now_s
            try:
                seen.waiting_before = await self._feed.waiting_before(one, MOST_WAITING)
            except DependencyUnavailable:
                seen.waiting_before = None


def _is_waiting(document: Document) -> bool:
    return document.state in _WAITING and document.created_at is not None


def _message(document: Document, task: dict[str, Any]) -> str:
    if document.state not in UNFINISHED:
        return ""
    is_held = document.state is DocumentState.PROCESSING
    if is_held and document.lease_until_ms / 1000 < time.time() - _LEASE_MARGIN_S:
        return _ABANDONED
    return str(task.get("message", "")) if task.get("status") in (document.state.value, None) else ""


def _non_negative(text: str | None) -> int:
    """0 where `text` is not a number: progress is for display only."""
    return int(text) if text and text.isdecimal() and len(text) < 10 else 0
