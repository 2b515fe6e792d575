"""The attempts at a record: it waits for its time, for the servers and for a turn, and runs until it is settled.

It uses capacity only while it runs: not before its time, not while its document is leased, not while a server is down.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final

from ingestion import metrics
from ingestion.errors import DependencyUnavailable, LeaseHeld
from ingestion.messages import Record
from workers.attempt.offers import OfferRefused
from workers.consumer.admission import Admission
from workers.runtime.breaker import Breakers

_LEASE_RECHECK_S: Final = 2.0


class Attempts:
    """Makes the attempts at the records of one worker. `run_record` returns once a record needs no more work."""

    def __init__(
        self, run_record: Callable[[Record], Awaitable[None]], admission: Admission, breakers: Breakers
    ) -> None:
        self._run_record = run_record
        self._admission = admission
        self._breakers = breakers
        self.waiting: set[asyncio.Task[None]] = set()
        """The tasks whose records may not run yet."""
        self.queued: set[asyncio.Task[None]] = set()
        """The tasks whose records wait for a turn and for capacity."""

    async def make(self, record: Record, is_ours: Callable[[], bool]) -> bool:
        """Run the record, and again while an outage or another owner's lease keeps it from running.

        Returns whether it needs no more work. False where `is_ours` returned False: another worker reads the record.
        Raises what `run_record` raises besides LeaseHeld, OfferRefused and DependencyUnavailable. The current task
        makes no other attempts meanwhile.
        """
        if record.due_in_s > 0:
            await self._wait(asyncio.sleep(record.due_in_s))
        state = _State(record)
        while is_ours():
            await self._wait(self._breakers.until_closed())
            try:
                if await self._attempt(state, is_ours):
                    return True
            except LeaseHeld as held:
                # Most often the lease of a worker that died. It ends by itself.
                await self._wait(asyncio.sleep(min(held.retry_in_s + 0.1, _LEASE_RECHECK_S)))
            except DependencyUnavailable as error:
                self._breakers.trip(error)
        return False

    async def _attempt(self, state: _State, is_ours: Callable[[], bool]) -> bool:
        """Returns whether the record needs no more work. Raises LeaseHeld, DependencyUnavailable."""
        async with self._admitted(state) as record:
            if self._breakers.is_blocking or not is_ours():
                return False  # that may have changed while the job waited for capacity
            if record is None:
                return True
            state.observe_wait(record)
            try:
                await self._run_record(record)
            except (OfferRefused, LeaseHeld) as refused:
                if not record.is_offer:
                    raise
                self._admission.refuse(record, refused.collection if isinstance(refused, OfferRefused) else "")
                state.was_refused |= record.key == state.record.key
                return False
        return True

    @asynccontextmanager
    async def _admitted(self, state: _State) -> AsyncIterator[Record | None]:
        async with AsyncExitStack() as held:
            with _counted(self.queued):
                admission = self._admission.admit(state.record, was_refused=state.was_refused)
                record = await held.enter_async_context(admission)
            yield record

    async def _wait(self, event: Awaitable[object]) -> None:
        with _counted(self.waiting):
            await event


@contextmanager
def _counted(among: set[asyncio.Task[None]]) -> Iterator[None]:
    task = asyncio.current_task()
    assert task is not None
    among.add(task)
    try:
        yield
    finally:
        among.discard(task)


@dataclass(slots=True)
class _State:
    """What the attempts at a record have shown. `was_refused`: its own document was offered here, and not taken."""

    record: Record
    was_refused: bool = False
    _is_observed: bool = False

    def observe_wait(self, record: Record) -> None:
        """Measure how long the document of the first attempt has waited."""
        if not self._is_observed and (waited_s := record.waited_s) is not None:
            metrics.QUEUE_WAIT.observe(waited_s)
        self._is_observed = True
