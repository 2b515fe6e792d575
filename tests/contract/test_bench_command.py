"""The command `pagemill bench index`: its measurements, and that it removes its index."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from math import ceil
from pathlib import Path

import pytest
from pymilvus import MilvusClient

from ingestion.bootstrap import Services
from tests.support.shelf import OTHER_PAGES, PAGES, PATCHES, Shelf, open_shelf
from tests.support.waiting import wait_until

_COMMAND_S = 60.0


@pytest.fixture
async def shelf(services: Services, collection: str) -> AsyncIterator[Shelf]:
    async with open_shelf(services, collection) as shelf:
        yield shelf


@pytest.fixture
def milvus(services: Services) -> Iterator[MilvusClient]:
    with closing(MilvusClient(uri=services.settings.milvus.milvus_uri, timeout=30)) as client:
        yield client


@contextmanager
def bench(tmp_path: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The command of the settings in the environment, from a folder in which no stack runs."""
    command = [sys.executable, "-m", "workers.cli", "bench", "index", *options]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=tmp_path, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def scratch_names(milvus: MilvusClient) -> set[str]:
    return {name for name in milvus.list_collections() if name.startswith("pagemillscratch_")}


async def test_each_index_is_measured_and_none_is_left(shelf: Shelf, milvus: MilvusClient, tmp_path: Path) -> None:
    before = scratch_names(milvus)
    picture = tmp_path / "matrix.png"
    grid = ("--m", "8", "--m", "16", "--ef-construction", "100", "--ef", "16", "--ef", "32")
    with bench(tmp_path, "--collection", shelf.collection, *grid, "--json", "--plot", str(picture)) as process:
        output, errors = await asyncio.to_thread(process.communicate, timeout=_COMMAND_S)
    assert process.returncode == 0, errors
    pages = PAGES + OTHER_PAGES - 1  # one is held out, for its vectors to be asked
    rows_of_a_page = ceil(PATCHES / shelf.services.settings.vectors.index_pooling)
    measured = [json.loads(line) for line in output.splitlines()]
    assert [(index["m"], index["ef_construction"]) for index in measured] == [(8, 100), (16, 100)]
    for index in measured:
        assert index["rows"] == pages * rows_of_a_page
        assert index["build_s"] > 0
        assert [(searched["ef"], searched["recall"]) for searched in index["searched"]] == [(16, 1.0), (32, 1.0)]
        assert all(0 < searched["p50_ms"] <= searched["p95_ms"] for searched in index["searched"])
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert scratch_names(milvus) <= before
    assert await shelf.services.vectors.count(shelf.collection) == (PAGES + OTHER_PAGES) * PATCHES


async def test_a_command_that_is_stopped_leaves_no_index(shelf: Shelf, milvus: MilvusClient, tmp_path: Path) -> None:
    before = scratch_names(milvus)
    many = ["--m", "8"] * 500
    with bench(tmp_path, "--collection", shelf.collection, *many, "--json") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert await asyncio.to_thread(process.stdout.readline), process.stderr.read()
        assert scratch_names(milvus) - before
        process.send_signal(signal.SIGTERM)
        _, errors = await asyncio.to_thread(process.communicate, timeout=_COMMAND_S)
    assert process.returncode == 130, errors
    await asyncio.to_thread(wait_until, lambda: scratch_names(milvus) <= before, _COMMAND_S)


async def test_a_collection_without_pages_cannot_be_measured(services: Services, tmp_path: Path) -> None:
    with bench(tmp_path, "--collection", "nothing-here") as process:
        _, errors = await asyncio.to_thread(process.communicate, timeout=_COMMAND_S)
    assert process.returncode == 1
    assert "'nothing-here' has 0 ready pages" in errors
