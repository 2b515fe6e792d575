"""An archiving, a restoring or a dropping that dies anywhere, again and again, ends as one that was never disturbed.

After each death the auditor goes through the stores with every right to repair and no grace.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from inspect import isasyncgenfunction, iscoroutinefunction
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from ingestion.bootstrap import Services
from ingestion.catalogue.states import CollectionState, archives_of
from ingestion.removal import Remover
from tests.memory import MemoryBlobStore
from tests.support.archives import archiver, everything, search
from tests.support.shelf import Shelf, open_shelf
from workers.backup.fetcher import BackupFetcher
from workers.lifecycle.archive import Archiver
from workers.wiring import backup_writer_of, remover_of

_DEADLINE_S = 60.0


@pytest.fixture
async def shelf(services: Services, collection: str) -> AsyncIterator[Shelf]:
    async with open_shelf(services, collection) as shelf:
        yield shelf


async def test_it_ends_the_same_wherever_archiving_and_restoring_are_killed(shelf: Shelf) -> None:
    before, hits = await everything(shelf), await search(shelf)
    steps = await until_it_lives(shelf, lambda life: mortal_archiver(shelf, life).archive(shelf.collection))
    assert steps > 25, "else not every step has been tried"
    assert await state_of(shelf) is CollectionState.ARCHIVED
    assert await shelf.records["pages"].count_documents({}) == 0
    steps = await until_it_lives(shelf, lambda life: mortal_archiver(shelf, life).restore(shelf.collection))
    assert steps > 15
    assert await everything(shelf) == before
    assert await search(shelf) == hits
    assert await shelf.services.blobs.list_keys(archives_of(shelf.collection)) == []
    assert await shelf.records["archived"].count_documents({}) == 0


async def test_nothing_is_left_wherever_dropping_is_killed(shelf: Shelf) -> None:
    await archiver(shelf.services).archive(shelf.collection)
    await until_it_lives(shelf, lambda life: mortal_remover(shelf, life).delete_collection(shelf.collection))
    assert await shelf.services.blobs.list_keys("") == []
    for name in ("documents", "pages", "collections", "archived"):
        assert await shelf.records[name].count_documents({}) == 0


async def test_it_ends_the_same_wherever_fetching_a_backup_is_killed(shelf: Shelf) -> None:
    documents, hits = await shelf.records["documents"].count_documents({}), await search(shelf)
    backups = MemoryBlobStore()
    await backup_writer_of(shelf.services, backups).write(shelf.collection)
    await remover_of(shelf.services).delete_collection(shelf.collection)
    steps = await until_it_lives(shelf, lambda life: mortal_fetcher(shelf, life, backups).fetch(shelf.collection))
    assert steps > 25, "else not every step has been tried"
    await archiver(shelf.services).restore(shelf.collection)
    assert await search(shelf) == hits
    assert await shelf.mismatches() == []
    assert await shelf.records["documents"].count_documents({}) == documents
    assert await shelf.services.blobs.list_keys(archives_of(shelf.collection)) == []
    assert await shelf.records["archived"].count_documents({}) == 0


async def test_a_process_that_is_killed_for_real_has_done_no_harm(shelf: Shelf, tmp_path: Path) -> None:
    before = await everything(shelf)
    command = [sys.executable, "-m", "workers.cli", "collections", "archive", shelf.collection]
    process = subprocess.Popen(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(Path.cwd())}, stderr=subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(_DEADLINE_S):
            while not (await state_of(shelf)).is_under_way:
                await asyncio.sleep(0.002)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert [one.what for one in await shelf.mismatches(repair=True) if not is_of_an_attempt(one.what)] == []
    await end_hold(shelf)
    await archiver(shelf.services).archive(shelf.collection)
    await archiver(shelf.services).restore(shelf.collection)
    assert await everything(shelf) == before
    assert await shelf.mismatches() == []


class Killed(BaseException):
    """A kill, simulated inside the test process: no code catches it, and no port answers afterwards."""


class Life:
    """Ends at call number `calls` to any port."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    def spend(self) -> None:
        self.left -= 1
        if self.left <= 0:
            raise Killed


class Mortal:
    """A port of a process with a life. A call that ends it may or may not have been carried out."""

    def __init__(self, port: object, life: Life) -> None:
        self._port = port
        self._life = life

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._port, name)
        assert not isasyncgenfunction(method)
        if not iscoroutinefunction(method):
            return method  # it makes no request

        async def call(*args: Any, **kwargs: Any) -> Any:
            if self._life.left <= 0:
                raise Killed
            answer = await method(*args, **kwargs)
            self._life.spend()
            return answer

        return call


def mortal_archiver(shelf: Shelf, life: Life) -> Archiver:
    ports = {name: Mortal(getattr(shelf.services, name), life) for name in ("documents", "blobs", "vectors")}
    return archiver(shelf.services, **ports)


def mortal_fetcher(shelf: Shelf, life: Life, backups: MemoryBlobStore) -> BackupFetcher:
    records, blobs = (Mortal(getattr(shelf.services, name), life) for name in ("documents", "blobs"))
    return BackupFetcher(records, blobs, backups, mortal_remover(shelf, life))  # type: ignore[arg-type]


def mortal_remover(shelf: Shelf, life: Life) -> Remover:
    names = ("documents", "vectors", "blobs", "queue", "progress")
    return Remover(*(Mortal(getattr(shelf.services, name), life) for name in names))  # type: ignore[arg-type]


async def until_it_lives(shelf: Shelf, work: Callable[[Life], Awaitable[object]]) -> int:
    """Do the work with a life of one call, of two, and so on until it survives; how many calls it took."""
    for calls in count(1):
        try:
            await work(Life(calls))
        except Killed:
            await end_hold(shelf)
        else:
            return calls
        findings = await shelf.mismatches(repair=True)
        assert [finding.what for finding in findings if not is_of_an_attempt(finding.what)] == []
    raise AssertionError


async def end_hold(shelf: Shelf) -> None:
    """As time does."""
    await shelf.records["collections"].update_one({"_id": shelf.collection}, {"$set": {"hold_until": 0}})


def is_of_an_attempt(what: str) -> bool:
    """A part that an attempt left which has been followed by another one."""
    return what.startswith("archives/")


async def state_of(shelf: Shelf) -> CollectionState:
    record = await shelf.services.documents.collection(shelf.collection)
    assert record is not None
    return record.state
