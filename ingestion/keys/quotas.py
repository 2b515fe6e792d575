"""Quotas of tenants. MongoDB counts what is stored and uploaded; each process counts requests for itself."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import Context
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog
from cachetools import TTLCache

from ingestion.concurrency.deadline import budget
from ingestion.errors import IngestError, QuotaExceeded, StorageQuotaExceeded, TooManyRequests
from ingestion.ports import TenantContents, TenantUsage

log = structlog.get_logger(__name__)

_MOST_TENANTS: Final = 10_000
_CONTENTS_S: Final = 1.0
"""How long counted documents are taken for right: a tenant may exceed these quotas by what it uploads in this time."""
_IN_FLIGHT_RETRY_S: Final = 30
_GIVE_BACK_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Quotas:
    """The limits of one tenant. 0: no limit."""

    requests_per_s: int = 0
    bytes_per_day: int = 0
    pages_per_day: int = 0
    documents_in_flight: int = 0
    pages_stored: int = 0


@dataclass(slots=True)
class _Counted:
    """The counted documents of a tenant, and the number of files that this process has accepted since."""

    contents: TenantContents
    accepted: int = 0


class QuotaKeeper:
    """Refuses requests and uploads above the quotas of their tenant. Without quotas it makes no request."""

    def __init__(
        self,
        usage: TenantUsage,
        quotas: Quotas,
        overrides: Mapping[str, Mapping[Any, int]],
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`overrides`: by tenant, the limits that differ from `quotas`."""
        self._usage = usage
        self._quotas = quotas
        self._own = {tenant: replace(quotas, **limits) for tenant, limits in overrides.items()}
        self._clock = clock
        self._now = now
        self._tokens: TTLCache[str, tuple[float, float]] = TTLCache(_MOST_TENANTS, 60.0, clock)
        """The requests that a tenant may send now, and when they were counted."""
        self._contents: TTLCache[str, _Counted] = TTLCache(_MOST_TENANTS, _CONTENTS_S, clock)

    def check_request(self, tenant: str) -> None:
        """Count a request. Raises TooManyRequests above `requests_per_s`; as many may come at once."""
        limit = self._of(tenant).requests_per_s
        if not limit:
            return
        now_s = self._clock()
        left, counted_s = self._tokens.get(tenant, (float(limit), now_s))
        left = min(float(limit), left + (now_s - counted_s) * limit)
        if left < 1:
            self._tokens[tenant] = (left, now_s)
            raise TooManyRequests(f"tenant {tenant!r} may send {limit} requests a second", 1)
        self._tokens[tenant] = (left - 1, now_s)

    async def reserve(self, tenant: str, size_bytes: int, pages: int) -> None:
        """Count a new file before it is stored. `pages` is 0 for a file that has to be converted.

        Raises StorageQuotaExceeded, QuotaExceeded, DependencyUnavailable.
        """
        quotas = self._of(tenant)
        if quotas.documents_in_flight or quotas.pages_stored:
            await self._check_contents(tenant, quotas, pages)
        if not quotas.bytes_per_day and not quotas.pages_per_day:
            return
        for what, limit, more in (
            ("bytes", quotas.bytes_per_day, size_bytes),
            ("pages", quotas.pages_per_day, pages),
        ):
            if limit and more > limit:
                raise StorageQuotaExceeded(f"tenant {tenant!r} may upload {limit} {what} a day; the file has {more}")
        now = self._now()
        day = now.date().isoformat()
        used = await self._usage.add_usage(tenant, day, size_bytes, pages)
        for what, limit, total in (
            ("bytes", quotas.bytes_per_day, used.size_bytes),
            ("pages", quotas.pages_per_day, used.pages),
        ):
            if limit and total > limit:
                await self._usage.add_usage(tenant, day, -size_bytes, -pages)
                raise QuotaExceeded(f"tenant {tenant!r} may upload {limit} {what} a day", _until_midnight_s(now))

    @asynccontextmanager
    async def reserved(self, tenant: str, size_bytes: int, pages: int) -> AsyncIterator[None]:
        """As `reserve`. Where the block, which stores the file, raises, the file no longer counts for the day."""
        day = self._now().date().isoformat()
        await self.reserve(tenant, size_bytes, pages)
        try:
            yield
        except BaseException:
            await self._give_back(tenant, day, size_bytes, pages)
            raise

    async def _give_back(self, tenant: str, day: str, size_bytes: int, pages: int) -> None:
        """Best effort: without MongoDB the file stays counted until midnight."""
        quotas = self._of(tenant)
        if not quotas.bytes_per_day and not quotas.pages_per_day:
            return
        # In a task and a context of its own: the budget of the request may be spent, and its task cancelled.
        subtraction = asyncio.create_task(self._subtract(tenant, day, size_bytes, pages), context=Context())
        await asyncio.wait({subtraction})

    async def _subtract(self, tenant: str, day: str, size_bytes: int, pages: int) -> None:
        try:
            with budget(_GIVE_BACK_S):
                await self._usage.add_usage(tenant, day, -size_bytes, -pages)
        except IngestError as error:
            log.warning("quota not given back", tenant=tenant, size_bytes=size_bytes, cause=error.message)

    async def _check_contents(self, tenant: str, quotas: Quotas, pages: int) -> None:
        if (counted := self._contents.get(tenant)) is None:
            contents = await self._usage.tenant_contents(tenant)
            # Another upload may have been counted meanwhile: each one adds to the same record.
            counted = self._contents.setdefault(tenant, _Counted(contents))
        in_flight = counted.contents.documents_in_flight + counted.accepted
        stored = counted.contents.pages_stored
        if quotas.pages_stored and stored + pages > quotas.pages_stored:
            raise StorageQuotaExceeded(
                f"tenant {tenant!r} may store {quotas.pages_stored} pages and has {stored}; delete documents first"
            )
        if quotas.documents_in_flight and in_flight >= quotas.documents_in_flight:
            raise QuotaExceeded(
                f"tenant {tenant!r} may have {quotas.documents_in_flight} documents in work", _IN_FLIGHT_RETRY_S
            )
        counted.accepted += 1

    def _of(self, tenant: str) -> Quotas:
        return self._own.get(tenant, self._quotas)


def _until_midnight_s(now: datetime) -> int:
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    return max(1, math.ceil((midnight - now).total_seconds()))
