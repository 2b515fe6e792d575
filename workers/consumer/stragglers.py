"""Publishes jobs again whose records are gone, while this worker has nothing to do.

A document that waits has a record that stands for it. There are two exceptions: the broker has lost the record, or a
worker of a release before 0.3 finished it while another worker used the document's own record. An idle worker also
takes over documents that wait for busier workers: the records that are left over then need no work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final, NoReturn, Protocol

import structlog

from ingestion.errors import IngestError
from ingestion.model import Document, IngestJob
from ingestion.ports import Flows, JobQueue, Outbox

log = structlog.get_logger(__name__)

_LOOK_EVERY_S: Final = 10.0
_AT_ONCE: Final = 16
_LEAST_WAIT: Final = timedelta(seconds=60)


class StragglerRecords(Flows, Outbox, Protocol):
    """Finds documents that wait, and records that their jobs are published."""


class Stragglers:
    """`is_idle` says whether the worker has no record."""

    def __init__(self, records: StragglerRecords, queue: JobQueue, is_idle: Callable[[], bool]) -> None:
        self._records = records
        self._queue = queue
        self._is_idle = is_idle

    async def run(self) -> NoReturn:
        """Look again and again. Ends when cancelled."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            if self._is_idle():
                try:
                    await self.publish()
                except IngestError as error:  # the breakers report a server that is down
                    log.debug("stragglers not published", cause=error.message)

    async def publish(self) -> int:
        """Publish some documents that have waited for a minute. Returns their number.

        A second record for a document is harmless. Raises DependencyUnavailable.
        """
        latest = datetime.now(UTC) - _LEAST_WAIT
        waiting: list[Document] = []
        for flow in await self._records.flows():
            waiting += await self._records.next_waiting(flow, _AT_ONCE)
        found = [one for one in waiting if one.updated_at is not None and one.updated_at <= latest]
        for document in found:
            await self._queue.publish(IngestJob.of(document))
            await self._records.mark_queued(document)
            log.info("published again", document_id=document.id, collection=document.collection)
        return len(found)
