"""Shapes of concurrency that asyncio does not give ready-made."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

T = TypeVar("T")
U = TypeVar("U")


async def side_by_side(*work: Coroutine[Any, Any, T]) -> list[T]:
    """Await all at once and return the results in order. The first exception cancels the rest and is raised bare."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from errors.exceptions[0].__cause__
    return [task.result() for task in tasks]


@asynccontextmanager
async def ahead(items: AsyncGenerator[T, None], depth: int = 1) -> AsyncIterator[AsyncIterator[T]]:
    """Run a generator in a task of its own, at most `depth` finished items ahead of whoever iterates.

    An exception of the generator is raised where its item would have come. Leaving the block stops the generator.
    """
    queue: asyncio.Queue[tuple[T] | Exception | None] = asyncio.Queue(maxsize=depth)

    async def pump() -> None:
        try:
            async for item in items:
                await queue.put((item,))
        except Exception as error:  # noqa: BLE001 - handed to the consumer, which raises it
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


async def in_order(
    function: Callable[[T], Coroutine[Any, Any, U]], items: AsyncIterator[T], *, width: int
) -> AsyncGenerator[U, None]:
    """The results of `function`, in the order of `items`, with up to `width` calls under way at a time.

    The first exception, of a call or of `items`, is raised where its result would have come. Closing the generator
    cancels what is under way.
    """
    calls: deque[asyncio.Task[U]] = deque()
    source = aiter(items)
    is_open, error = True, None
    try:
        while is_open or calls:
            while is_open and len(calls) < width:
                try:
                    item = await anext(source)
                except StopAsyncIteration:
                    is_open = False
                except Exception as caught:  # noqa: BLE001 - raised below, after the results before it
                    is_open, error = False, caught
                else:
                    calls.append(asyncio.create_task(function(item)))
            if calls:
                yield await calls[0]
                calls.popleft()
        if error is not None:
            raise error
    finally:
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
