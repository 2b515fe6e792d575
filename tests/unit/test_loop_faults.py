"""Jobs that end in an unexpected way: the loop notices at once, and ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection

import pytest

from ingestion.errors import WorkerFault
from ingestion.messages import Partition, Record, encode_job
from ingestion.model import IngestJob
from workers.consumer.loop import JobLoop
from workers.runtime.breaker import Breakers

PARTITION = ("jobs", 0)


class OneJob:
    """A consumer that has one record."""

    def __init__(self) -> None:
        key, value, headers = encode_job(IngestJob("d", "c", "f.pdf", 1))
        self._records = [Record(PARTITION, 0, key, value, tuple(headers))]
        self.committed: dict[Partition, int] = {}

    async def start(
        self,
        on_assigned: Callable[[set[Partition]], Awaitable[None]],
        on_revoked: Callable[[set[Partition]], Awaitable[None]],
    ) -> None:
        await on_assigned({PARTITION})

    async def stop(self) -> None: ...

    async def poll(self, max_records: int, timeout_ms: int) -> list[Record]:
        await asyncio.sleep(0.001)
        found, self._records = self._records, []
        return found

    def assignment(self) -> set[Partition]:
        return {PARTITION}

    def pause_only(self, partitions: Collection[Partition]) -> None: ...

    async def commit(self, offsets: dict[Partition, int]) -> None:
        self.committed |= offsets

    def ends(self) -> dict[Partition, int]:
        return {}


@pytest.mark.parametrize("error", [asyncio.CancelledError(), KeyError("nobody foresaw this")])
async def test_the_loop_ends_with_an_error_and_the_offset_is_not_committed(error: BaseException) -> None:
    async def run(record: Record) -> None:
        raise error

    consumer = OneJob()
    loop = JobLoop(consumer, run, Breakers({}), jobs_in_flight=1, max_ahead=10, drain_s=1)
    with pytest.raises(WorkerFault if isinstance(error, asyncio.CancelledError) else KeyError):
        async with asyncio.timeout(10):
            await loop.run()
    assert consumer.committed == {}
