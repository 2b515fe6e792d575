"""Patterns of concurrent tasks that asyncio does not have."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from ingestion.concurrency.cancellation import is_stray_cancellation

T = TypeVar("T")
U = TypeVar("U")

_FIRST: Final = asyncio.FIRST_COMPLETED


async def gather_or_cancel(*work: Coroutine[Any, Any, T]) -> list[T]:
    """Run the coroutines at the same time. Return their results in order.

    The first exception is raised after the others have been cancelled and have ended. A TaskGroup of Python 3.11 would
    leave the caller marked as cancelled then, and would raise the exception in place of a real cancellation.
    """
    tasks = [asyncio.create_task(one) for one in work]
    if not tasks:
        return []
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            if task in done and not task.cancelled() and (error := task.exception()):
                raise error
        return [task.result() for task in tasks]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def prefetch(items: AsyncGenerator[T, None], depth: int = 1) -> AsyncIterator[AsyncIterator[T]]:
    """Run a generator in a task of its own, at most `depth` finished items ahead of the consumer.

    An exception of the generator is raised in place of its item. The end of the block stops the generator.
    """
    queue: asyncio.Queue[tuple[T] | Exception | None] = asyncio.Queue(maxsize=depth)

    async def pump() -> None:
        try:
            async for item in items:
                await queue.put((item,))
        except asyncio.CancelledError:
            if not is_stray_cancellation():
                raise
            await queue.put(RuntimeError("cancelled from within"))  # or the consumer would wait for ever
        except Exception as error:  # noqa: BLE001 - passed to the consumer, which raises it
            await queue.put(error)
        else:
            await queue.put(None)

    async def drain() -> AsyncIterator[T]:
        while (entry := await queue.get()) is not None:
            if isinstance(entry, Exception):
                raise entry
            yield entry[0]

    task = asyncio.create_task(pump())
    try:
        yield drain()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await items.aclose()


async def map_ordered(
    function: Callable[[T], Coroutine[Any, Any, U]], items: AsyncIterator[T], *, width: int
) -> AsyncGenerator[U, None]:
    """The results of `function`, in the order of `items`, with up to `width` calls at a time.

    A result is yielded as soon as it exists, also while the generator waits for the next item. The first exception, of
    a call or of `items`, is raised in place of its result. Closing the generator cancels the calls that still run.
    """
    calls: deque[asyncio.Task[U]] = deque()
    source = aiter(items)
    coming: asyncio.Task[T | _End] | None = None
    is_open, error = True, None
    try:
        while is_open or calls:
            if is_open and coming is None and len(calls) < width:
                coming = asyncio.create_task(_next(source))
            await asyncio.wait([*([coming] if coming else []), *([calls[0]] if calls else [])], return_when=_FIRST)
            if coming is not None and coming.done():
                arrived, coming = coming, None
                try:
                    item = arrived.result()
                except Exception as caught:  # noqa: BLE001 - raised below, after the results before it
                    is_open, error = False, caught
                else:
                    if isinstance(item, _End):
                        is_open = False
                    else:
                        calls.append(asyncio.create_task(function(item)))
            elif calls[0].done():
                yield calls.popleft().result()
        if error is not None:
            raise error
    finally:
        left = [*calls, *([coming] if coming else [])]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


class _End:
    """Marks the end of the items."""


async def _next(source: AsyncIterator[T]) -> T | _End:
    return await anext(source, _End())
