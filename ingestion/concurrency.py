"""Two shapes of concurrency that asyncio does not give ready-made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

T = TypeVar("T")


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
