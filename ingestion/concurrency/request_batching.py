"""Requests that wait at the same time, sent together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Final, Generic, TypeVar

from ingestion.concurrency.deadline import limit_s, remaining_s
from ingestion.errors import DependencyUnavailable, RetryableError

K = TypeVar("K")
V = TypeVar("V")

MAX_BATCH: Final = 100


class RequestBatcher(Generic[K, V]):
    """At most one request runs at a time; items that come meanwhile are sent together in the next one.

    `run` returns one entry per item, in order: its result, or the exception to raise to that item's caller.
    """

    def __init__(self, run: Callable[[Sequence[K]], Awaitable[Sequence[V | Exception]]], *, dependency: str) -> None:
        """`dependency` is the server that `run` calls."""
        self._run = run
        self._dependency = dependency
        self._waiting: deque[tuple[K, asyncio.Future[V]]] = deque()
        self._running: asyncio.Task[None] | None = None

    async def call(self, item: K) -> V:
        """Waits for the result of `item`, from a request that starts after this call. Raises what `run` raises or
        returns for the item.

        Where `run` raises for several items, and it is no RetryableError, `run` is called again for each item alone.

        Where a caller is cancelled before its batch starts, its item is left out; a batch that has started goes on.
        The same holds where the caller's time budget ends: it gets DependencyUnavailable.
        """
        future: asyncio.Future[V] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._running is None or self._running.done():
            # Without the context, or the first caller's time budget would limit the requests of all others.
            self._running = asyncio.create_task(self._run_all(), context=Context())
        left_s = remaining_s()
        try:
            async with asyncio.timeout(None if left_s is None else limit_s(self._dependency, left_s)):
                return await future
        except TimeoutError as error:
            raise DependencyUnavailable(self._dependency, "it did not answer in time") from error

    async def _run_all(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_BATCH))]
            await self._settle([(item, future) for item, future in batch if not future.done()])

    async def _settle(self, batch: list[tuple[K, asyncio.Future[V]]]) -> None:
        if not batch:
            return
        results: Sequence[V | Exception]
        try:
            results = await self._run([item for item, _ in batch])
        except RetryableError as error:
            results = [error] * len(batch)
        except Exception as error:  # noqa: BLE001 - passed to the callers, which raise it
            if len(batch) > 1:  # one item is at fault; the others may succeed alone
                for one in batch:
                    await self._settle([one])
                return
            results = [error]
        except asyncio.CancelledError:
            for _, future in batch:
                future.cancel()
            raise
        for (_, future), result in zip(batch, results, strict=True):
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
