"""Heartbeats: they keep a claimed document with its worker while the worker processes it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

import structlog

from ingestion.concurrency.cancellation import is_stray_cancellation
from ingestion.errors import DependencyUnavailable, LeaseLost, RetryableError, Stalled
from ingestion.model import Document
from ingestion.ports import Ledger

log = structlog.get_logger(__name__)

_BEATS_PER_LEASE: Final = 3
_BEATS_AGAIN_PER_LEASE: Final = 20
"""After a heartbeat has failed. The lease lasts for some tries more."""

_Loss = LeaseLost | DependencyUnavailable | Stalled


class Lease:
    """Extends a document's lease from a task of its own while the block runs.

    A heartbeat that fails is sent again soon, until the lease ends. When the lease has ended, or the fence has moved,
    the block is cancelled and an error raised in its place: DependencyUnavailable where the database did not answer,
    otherwise LeaseLost. Another worker may have the document by then. `abort` does the same at any time.
    `document` is the record as the holder of the lease last changed it.
    """

    def __init__(
        self, ledger: Ledger, document: Document, lease_s: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ledger = ledger
        self.document = document
        self._lease_s = lease_s
        self._clock = clock
        self._expires = clock() + lease_s
        self._lost: _Loss | None = None
        self._has_ended = False

    async def __aenter__(self) -> Self:
        owner = asyncio.current_task()
        assert owner is not None
        self._owner = owner
        self._task = asyncio.create_task(self._beat())
        self._task.add_done_callback(self._beats_ended)
        return self

    def check(self) -> None:
        """Raise LeaseLost where the lease may have ended, for example because this process was stopped for a while.

        Call it before writes to stores that know no fences. It uses this machine's clock alone.
        """
        if self._clock() >= self._expires:
            raise LeaseLost(
                f"the lease of document {self.document.id} may have ended; it has not been extended in time"
            )

    def abort(self, error: _Loss) -> None:
        """Stop the heartbeats, cancel the block and raise `error` in its place. No effect after a loss or `end`."""
        if self._lost is None and not self._has_ended:
            self._lost = error
            self._task.cancel()
            self._owner.cancel()

    async def end(self) -> None:
        """Stop the heartbeats before an outcome is recorded: a heartbeat after it would report a lost lease.

        The fence guards the outcome itself.
        """
        self._has_ended = True
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        try:
            await asyncio.gather(self._task, return_exceptions=True)
        except asyncio.CancelledError:
            if self._lost is None:
                raise
        if self._lost is not None:
            self._owner.uncancel()
            raise self._lost

    def _beats_ended(self, beats: asyncio.Task[None]) -> None:
        """Abort the block at once where an unforeseen error has ended the heartbeats."""
        if not beats.cancelled() and (error := beats.exception()) is not None:
            log.error("heartbeats ended", document_id=self.document.id, exc_info=error)
            self.abort(self._not_extended(error))

    async def _beat(self) -> None:
        pause_s = self._lease_s / _BEATS_PER_LEASE
        while self._lost is None:
            await asyncio.sleep(pause_s)
            try:
                failure = await self._extend()
            except LeaseLost as lost:
                self.abort(lost)
                return
            pause_s = self._lease_s / (_BEATS_PER_LEASE if failure is None else _BEATS_AGAIN_PER_LEASE)
            if failure is not None and self._clock() >= self._expires:
                self.abort(failure)

    async def _extend(self) -> LeaseLost | DependencyUnavailable | None:
        """Returns why the lease could not be extended, or None. Raises LeaseLost where the fence has moved."""
        sent = self._clock()
        limit_s = max(self._expires - sent, self._lease_s / _BEATS_AGAIN_PER_LEASE)
        try:
            async with asyncio.timeout(limit_s):
                await self._ledger.extend(self.document.id, self.document.fence, round(self._lease_s * 1000))
        except LeaseLost:
            raise
        except (DependencyUnavailable, TimeoutError) as error:
            if (late_s := self._clock() - sent - limit_s) > limit_s / 2:
                # The timer came late: this process stood still, and the answer may lie unread in its socket.
                log.warning("heartbeat failed", document_id=self.document.id, cause=f"stood still for {late_s:.1f} s")
                return self._not_extended(error)
            outage = error if isinstance(error, DependencyUnavailable) else _no_answer(limit_s)
            log.warning("heartbeat failed", document_id=self.document.id, cause=outage.message)
            return outage
        except RetryableError as error:
            log.warning("heartbeat failed", document_id=self.document.id, cause=error.message)
            return self._not_extended(error)
        except asyncio.CancelledError as error:
            if not is_stray_cancellation():
                raise
            log.exception("heartbeat failed", document_id=self.document.id)
            return self._not_extended(error)
        except Exception as error:
            log.exception("heartbeat failed", document_id=self.document.id)
            return self._not_extended(error)
        self._expires = sent + self._lease_s
        return None

    def _not_extended(self, cause: BaseException) -> LeaseLost:
        return LeaseLost(
            f"the lease of document {self.document.id} could not be extended: {type(cause).__name__}: {cause}"
        )


def _no_answer(limit_s: float) -> DependencyUnavailable:
    return DependencyUnavailable("mongodb", f"no answer to a heartbeat within {limit_s:.1f} s")
