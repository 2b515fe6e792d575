"""Pauses jobs during the outage of a server that they need.

    closed --an operation could not reach the server--> open --the server answers a ping--> closed

While a breaker is open no job begins. A server that answers pings and refuses work, for example because its disk is
full, opens its breaker again and again. Each time the breaker stays open for longer.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

import structlog

from ingestion import metrics
from ingestion.concurrency.supervision import TaskSupervisor
from ingestion.errors import DependencyUnavailable, IngestError

log = structlog.get_logger(__name__)

_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 15.0
_RELAPSE_S: Final = 60.0
"""An outage that begins so soon after another one counts as the same."""
_WATCH_EVERY_S: Final = 5.0
_PING_S: Final = 20.0
"""A ping that takes longer has failed."""
_MISSES: Final = 2
Check = Callable[[], Awaitable[None]]
_THIS_WORKER: Final = "this worker"


@dataclass(frozen=True, slots=True)
class Outage:
    dependency: str
    since: datetime
    cause: str


class Breakers:
    """One breaker for each server. A ping in `pings` raises while its server does not answer.

    A proof in `proofs` raises while its server does not do its work: a server that answers may have a full disk, or a
    model that hangs. A proof costs more than a ping and decides when an outage is over. Servers in `optional` are
    watched and reported, but no job waits for them. A server without a ping or a proof is tried again after the pause.
    """

    def __init__(
        self,
        pings: Mapping[str, Check],
        *,
        proofs: Mapping[str, Check] = MappingProxyType({}),
        optional: Collection[str] = frozenset(),
    ) -> None:
        self._pings = pings
        self._proofs = {**pings, **proofs}
        self._optional = optional
        self._open: dict[str, Outage] = {}
        self._pause_s: dict[str, float] = {}
        self._closed_at: dict[str, float] = {}
        self._probes = TaskSupervisor()
        self._closed = asyncio.Event()
        self._closed.set()
        for name in self._proofs:
            metrics.BREAKER_OPEN.labels(name).set(0)

    @property
    def outages(self) -> list[Outage]:
        return sorted(self._open.values(), key=lambda outage: outage.since)

    @property
    def is_blocking(self) -> bool:
        """Whether a server that jobs need is known to be down."""
        return not self._closed.is_set()

    async def until_closed(self) -> None:
        """Wait until no server that jobs need is known to be down."""
        await self._closed.wait()

    def trip(self, error: DependencyUnavailable) -> None:
        """Open the breaker of the server that could not be reached. No effect while it is open."""
        name = error.dependency
        if name in self._open:
            return
        is_relapse = time.monotonic() - self._closed_at.get(name, -_RELAPSE_S) < _RELAPSE_S
        self._pause_s[name] = min(2 * self._pause_s[name], _LONGEST_PAUSE_S) if is_relapse else _FIRST_PAUSE_S
        self._enter(Outage(name, datetime.now(UTC), error.message))
        self._probes.run_until_done(f"probe {name}", lambda: self._probe(name))

    def halt(self, cause: str) -> None:
        """Begin no job any more, until a person restarts this process."""
        self._enter(Outage(_THIS_WORKER, datetime.now(UTC), cause))

    async def watch(self, is_idle: Callable[[], bool]) -> None:
        """While the worker is idle, ping every server now and then, so that an outage shows before a job meets it.

        While jobs run, they notice an outage themselves, and a server that answers a ping slowly may only be busy with
        their requests. Ends when cancelled.
        """
        misses: Counter[str] = Counter()
        while True:
            await asyncio.sleep(_WATCH_EVERY_S)
            for name in self._pings.keys() - self._open.keys():
                if not is_idle():
                    misses.clear()
                    break
                try:
                    await self._in_time(name, self._pings[name])
                    misses[name] = 0
                except DependencyUnavailable as error:
                    misses[name] += 1
                    if misses[name] >= _MISSES:
                        self.trip(error)
                except IngestError as error:
                    log.warning("ping failed", dependency=name, cause=error.message)

    async def stop(self) -> None:
        """End the probes of servers that are down."""
        await self._probes.stop()

    async def _in_time(self, name: str, check: Check) -> None:
        try:
            async with asyncio.timeout(_PING_S):
                await check()
        except TimeoutError as error:
            raise DependencyUnavailable(name, f"no answer to a ping within {_PING_S:g} s") from error

    def _enter(self, outage: Outage) -> None:
        self._open[outage.dependency] = outage
        self._settle()
        metrics.BREAKER_OPEN.labels(outage.dependency).set(1)
        log.warning("breaker open", dependency=outage.dependency, cause=outage.cause)

    async def _probe(self, name: str) -> None:
        while True:
            await asyncio.sleep(self._pause_s[name])
            try:
                if name in self._proofs:
                    await self._in_time(name, self._proofs[name])
                break
            except IngestError as error:
                log.debug("still down", dependency=name, cause=error.message)
        outage = self._open.pop(name)
        self._closed_at[name] = time.monotonic()
        self._settle()
        metrics.BREAKER_OPEN.labels(name).set(0)
        seconds = (datetime.now(UTC) - outage.since).total_seconds()
        log.info("breaker closed", dependency=name, seconds=round(seconds, 1))

    def _settle(self) -> None:
        if self._open.keys() - set(self._optional):
            self._closed.clear()
        else:
            self._closed.set()
