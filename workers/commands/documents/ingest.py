"""`pagemill ingest`: upload PDFs and, with --wait, follow them until they can be found."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import anyio

from ingestion.client.client import ApiClient, connect
from ingestion.client.following import follow
from ingestion.client.views import DocumentView, UploadLabels
from ingestion.errors import IngestError
from ingestion.model import check_collection
from workers.commands.documents.labels import require_one_file
from workers.commands.documents.paths import expand
from workers.commands.documents.reporters import BarReporter, JsonReporter, LineReporter, Reporter, UploadResult
from workers.commands.documents.target import find_target
from workers.commands.terminal import stdout

_UPLOADS: Final = 4
_WATCHED: Final = 16
# Watchers take turns, so that documents which wait for a retry do not hide the end of the others.
_TURN_S: Final = 60.0


def ingest_paths(
    paths: list[str], collection: str, labels: UploadLabels, *, wait: bool, as_json: bool, data_dir: Path | None
) -> bool:
    """Upload and, where asked, wait; True where all went well. Raises BadRequest, ApiError, DependencyUnavailable."""
    check_collection(collection)
    files = expand(paths)
    require_one_file(files, labels)
    outcomes = anyio.run(_ingest, files, collection, labels, wait, as_json, data_dir)
    return all(outcome.is_good for outcome in outcomes)


async def _ingest(
    files: list[Path], collection: str, labels: UploadLabels, wait: bool, as_json: bool, data_dir: Path | None
) -> list[UploadResult]:
    async with connect(find_target(data_dir)) as api:
        await api.check()
        with _reporter(as_json=as_json, wait=wait, files=len(files)) as reporter:
            run = _Run(api, collection, labels, wait, reporter)
            async with anyio.create_task_group() as tasks:
                for path in files:
                    tasks.start_soon(run.one, path)
        return run.outcomes


def _reporter(*, as_json: bool, wait: bool, files: int) -> Reporter:
    if as_json:
        return JsonReporter()
    console = stdout()
    return BarReporter(console, files) if wait and console.is_terminal else LineReporter(console)


@dataclass(slots=True)
class _Run:
    """One call of the command; `one` runs side by side for every file."""

    api: ApiClient
    collection: str
    labels: UploadLabels
    wait: bool
    reporter: Reporter
    outcomes: list[UploadResult] = field(default_factory=list)
    _uploads: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(_UPLOADS))
    _watchers: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(_WATCHED))

    async def one(self, path: Path) -> None:
        outcome = await self._accept_and_wait(path)
        self.outcomes.append(outcome)
        self.reporter.ended(outcome)

    async def _accept_and_wait(self, path: Path) -> UploadResult:
        try:
            async with self._uploads:
                self.reporter.uploading(path)
                view = await self.api.upload(self.collection, path, self.labels)
            self.reporter.progress(path, view)
        except IngestError as error:
            return UploadResult.refused(path, error)
        if not self.wait:
            return UploadResult.accepted(path, view)
        try:
            return UploadResult.settled(path, await self._settle(path, view))
        except IngestError as error:  # The document may still become ready, but this command does not see it.
            return UploadResult.lost(path, view, error)

    async def _settle(self, path: Path, view: DocumentView) -> DocumentView:
        """Follow a document to its end, in turns of `_TURN_S`, `_WATCHED` documents at a time."""
        while True:
            async with self._watchers:
                with anyio.move_on_after(_TURN_S):
                    async with aclosing(follow(self.api, view.document_id)) as views:
                        async for view in views:
                            self.reporter.progress(path, view)
                    return view
