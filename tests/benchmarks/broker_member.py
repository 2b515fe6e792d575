"""A member of the workers' group that claims documents and does nothing else with them.

    python -m tests.benchmarks.broker_member [--hold] [--no-claim]

It writes a JSON line for each event: `joining`, `assigned`, `received`, `claimed`, `committed`. Times are in seconds
of the system clock. With `--hold` it never finishes a record whose document id begins with HELD.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import structlog

from ingestion.adapters.kafka.consumer import JobConsumer
from ingestion.adapters.mongo.document_store import MongoDocumentStore
from ingestion.messages import Partition, Record
from ingestion.settings import Settings
from workers.consumer.loop import JobLoop
from workers.runtime.breaker import Breakers

HELD: Final = "held"
HOLDS: Final = "--hold"
NO_CLAIM: Final = "--no-claim"
_LEASE_MS: Final = 60_000


def _tell(event: str, **facts: object) -> None:
    print(json.dumps({"event": event, "at_s": time.time(), **facts}), flush=True)


class _TimedConsumer(JobConsumer):
    async def start(
        self,
        on_assigned: Callable[[set[Partition]], Awaitable[None]],
        on_revoked: Callable[[set[Partition]], Awaitable[None]],
    ) -> None:
        async def assigned(partitions: set[Partition]) -> None:
            await on_assigned(partitions)
            _tell("assigned", partitions=len(partitions))

        _tell("joining")
        await super().start(assigned, on_revoked)

    async def commit(self, offsets: Mapping[Partition, int]) -> None:
        began_s = time.perf_counter()
        await super().commit(offsets)
        _tell("committed", took_s=time.perf_counter() - began_s)


async def main() -> None:
    settings = Settings()
    name = settings.worker.worker_id
    async with MongoDocumentStore(settings.mongo) as store:

        async def claim(record: Record) -> None:
            id_ = record.job.document_id
            _tell("received", id=id_)
            if HOLDS in sys.argv and id_.startswith(HELD):
                await asyncio.Event().wait()
            if NO_CLAIM in sys.argv:
                return
            await store.claim(id_, name, _LEASE_MS)
            _tell("claimed", id=id_)

        consumer = _TimedConsumer(settings.kafka, name)
        limits = {"jobs_in_flight": settings.worker.jobs_in_flight, "max_ahead": settings.worker.max_ahead}
        loop = JobLoop(consumer, claim, Breakers({}), drain_s=1.0, **limits)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, loop.stop)
        await loop.run()


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    logging.basicConfig(stream=sys.stderr, level=logging.CRITICAL)
    asyncio.run(main())
