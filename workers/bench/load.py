"""A load test: uploads PDFs that it makes, follows each to its end, and records the times."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx

from ingestion.client.client import ApiClient
from ingestion.client.following import follow
from ingestion.client.views import DocumentView
from ingestion.errors import IngestError
from ingestion.model import DocumentState
from workers.bench.sample_pdf import sample_pdf

REFUSED: Final = "refused"
LOST: Final = "lost"
UNFINISHED: Final = "unfinished"
STREAMS: Final = 64
"""Event streams side by side. The API looks at each document twice a second."""


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """`rate_per_s`: files that begin in a second. None: a file begins when one of `concurrency` uploads has ended.

    `limit_s`: the run ends after this time. The report calls files unfinished that have not settled.
    """

    files: int
    pages: int
    concurrency: int
    rate_per_s: float | None = None
    limit_s: float = 1800.0


@dataclass(slots=True)
class LoadedFile:
    """One file of the run. Times are seconds since the start of the run.

    `due_s` is the time from which its latencies count: the time at which its upload began, or, with a rate, should
    have begun. `ready_s` is the time of the event, which the API sends up to half a second after the change.
    """

    name: str
    pages: int
    due_s: float
    accepted_s: float | None = None
    settled_s: float | None = None
    state: str = UNFINISHED
    pages_done: int = 0
    attempts: int = 0
    error_code: str = ""
    document_id: str = ""


@dataclass(slots=True)
class ResponseCounter:
    """Counts by status the answers of the API that a client repeats or reports."""

    errors: Counter[int] = field(default_factory=Counter)

    async def __call__(self, response: httpx.Response) -> None:
        if response.is_error:
            self.errors[response.status_code] += 1


def file_name(number: int) -> str:
    return f"load-{number:05d}.pdf"


class LoadRun:
    """One run. `files` and `elapsed_s` may be read while it runs, and after it was cancelled."""

    def __init__(
        self,
        api: ApiClient,
        collection: str,
        plan: LoadPlan,
        folder: Path,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.plan = plan
        self.files: list[LoadedFile] = []
        self._api = api
        self._collection = collection
        self._folder = folder
        self._clock = clock
        self._started = clock()
        self._ended: float | None = None
        self._streams = asyncio.Semaphore(STREAMS)

    @property
    def elapsed_s(self) -> float:
        return (self._ended or self._clock()) - self._started

    @property
    def pages_done(self) -> int:
        return sum(file.pages_done for file in self.files)

    @property
    def accepted(self) -> int:
        return sum(file.accepted_s is not None for file in self.files)

    @property
    def settled(self) -> int:
        """Number of files that have settled or were refused."""
        return sum(file.state != UNFINISHED for file in self.files)

    @property
    def backlog(self) -> int:
        """Number of files that are accepted and have not settled."""
        return sum(file.accepted_s is not None and file.state == UNFINISHED for file in self.files)

    @property
    def not_ready(self) -> int:
        """Number of files that have settled in another state than ready."""
        return sum(file.state not in (UNFINISHED, DocumentState.READY) for file in self.files)

    async def run(self) -> None:
        """Return when all files have settled, or after `limit_s`. Errors of single files are recorded, not raised."""
        with self._timed():
            try:
                async with asyncio.timeout(self.plan.limit_s), asyncio.TaskGroup() as tasks:
                    slots = asyncio.Semaphore(self.plan.concurrency)
                    for number in range(self.plan.files):
                        due_s = await self._due_s(number)
                        await slots.acquire()
                        tasks.create_task(self._one(number, due_s, slots))
            except TimeoutError:
                pass  # the report calls unfinished what has not settled

    @contextmanager
    def _timed(self) -> Iterator[None]:
        self._started = self._clock()
        try:
            yield
        finally:
            self._ended = self._clock()

    async def _due_s(self, number: int) -> float | None:
        """Wait until a file is due, and return that time. Return None at once where there is no rate."""
        if self.plan.rate_per_s is None:
            return None
        due_s = number / self.plan.rate_per_s
        await asyncio.sleep(due_s - self.elapsed_s)
        return due_s

    async def _one(self, number: int, due_s: float | None, slots: asyncio.Semaphore) -> None:
        try:
            file = await self._accepted(number, due_s)
        finally:
            slots.release()
        if file is not None:
            await self._settled(file)

    async def _accepted(self, number: int, due_s: float | None) -> LoadedFile | None:
        """Make a file and upload it. Return None where the API refused it."""
        path = self._folder / file_name(number)
        made = await asyncio.to_thread(sample_pdf, f"{self._collection}/{number}", self.plan.pages)
        await asyncio.to_thread(path.write_bytes, made.content)
        file = LoadedFile(path.name, self.plan.pages, self.elapsed_s if due_s is None else due_s)
        self.files.append(file)
        try:
            view = await self._api.upload(self._collection, path)
        except IngestError as error:
            file.state, file.error_code, file.settled_s = REFUSED, error.code, self.elapsed_s
            return None
        finally:
            path.unlink(missing_ok=True)
        file.document_id, file.accepted_s = view.document_id, self.elapsed_s
        return file

    async def _settled(self, file: LoadedFile) -> None:
        try:
            async with self._streams, aclosing(follow(self._api, file.document_id)) as views:
                async for view in views:
                    self._note(file, view)
        except IngestError as error:
            file.state, file.error_code, file.settled_s = LOST, error.code, self.elapsed_s

    def _note(self, file: LoadedFile, view: DocumentView) -> None:
        file.pages_done = max(file.pages_done, file.pages if view.state is DocumentState.READY else view.pages_done)
        file.attempts = view.attempts
        if view.state.is_settled:
            file.state, file.settled_s = view.state.value, self.elapsed_s
            file.error_code = view.error.code if view.error else ""
