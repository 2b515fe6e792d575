"""The state of the installation at this moment, for people who watch it: workers, lag, outages, throughput."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import structlog
from cachetools import TTLCache

from ingestion.errors import DependencyUnavailable
from ingestion.model import Document
from ingestion.ports import ConsumerGroup, FinishedMinute, GroupSnapshot, Progress, WorkRecords

log = structlog.get_logger(__name__)

_VALID_S: Final = 3.0
_MOST_TENANTS: Final = 1_000
_MOST_IN_WORK: Final = 500
_MOST_FINISHED: Final = 10_000


@dataclass(frozen=True, slots=True)
class SystemState:
    """`group` is None where the broker does not answer, and in the state that a tenant sees."""

    in_work: Sequence[Document]
    finished: Sequence[FinishedMinute]
    outages: Mapping[str, datetime]
    group: GroupSnapshot | None


class SystemReader:
    """Asks the stores at most once in _VALID_S for each tenant, however many callers there are."""

    def __init__(
        self,
        work: WorkRecords,
        group: ConsumerGroup,
        progress: Progress,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._work = work
        self._group = group
        self._progress = progress
        self._answers: TTLCache[object, Any] = TTLCache(_MOST_TENANTS, _VALID_S, clock)
        self._turns: TTLCache[object, asyncio.Lock] = TTLCache(_MOST_TENANTS, 3600.0, clock)

    async def state(self, tenant: str | None, minutes: int) -> SystemState:
        """The state of one tenant's documents, or of the installation. Raises DependencyUnavailable for MongoDB."""
        in_work = await self._cached(("in work", tenant), lambda: self._work.in_work(_MOST_IN_WORK, tenant=tenant))
        finished = await self._cached(
            ("finished", tenant, minutes), lambda: self._work.finished(minutes, _MOST_FINISHED, tenant=tenant)
        )
        outages = await self._cached("outages", self._progress.outages)
        group = await self._cached("group", self._group_snapshot) if tenant is None else None
        return SystemState(in_work, finished, outages, group)

    async def _group_snapshot(self) -> GroupSnapshot | None:
        try:
            return await self._group.snapshot()
        except DependencyUnavailable as error:
            log.warning("lag not known", dependency=error.dependency, cause=error.message)
            return None

    async def _cached(self, key: object, ask: Callable[[], Awaitable[Any]]) -> Any:
        """One caller asks; the others wait for its answer."""
        async with self._turns.setdefault(key, asyncio.Lock()):
            if key not in self._answers:
                self._answers[key] = await ask()
            return self._answers[key]
