"""The command `pagemill collections reembed`: its output and its exit status."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

from typer.testing import CliRunner, Result

from ingestion.bootstrap import Services
from tests.support.reembedding import NEW, OLD, library
from tests.support.serving import serving
from workers.cli import app


def command(folder: Path, *arguments: str) -> Result:
    """Of the settings in the environment, from a folder in which no stack runs."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        env = {**os.environ, "PAGEMILL_LEASE_S": "0.01"}
        return CliRunner().invoke(app, ["collections", "reembed", *arguments], env=env)
    finally:
        os.chdir(before)


async def test_a_collection_is_re_embedded_by_another_service(
    services: Services, collection: str, tmp_path: Path
) -> None:
    shelf = library(services, collection)
    await shelf.put("a", 3)
    async with serving(NEW) as service:
        url = str(service.http.base_url)
        embedder = ("--embedder", "remote", "--embedder-url", url)
        done = await asyncio.to_thread(command, tmp_path, collection, *embedder)
        assert done.exit_code == 0, done.output
    assert f"{collection}: 3 pages with {NEW.fingerprint}" in done.stdout
    assert await shelf.pages_found() == {shelf.id_of("a"): 3}
    for index in (await shelf.bound()).indexes:
        await services.vectors.drop(index)
    shelf.records.client.close()


async def test_a_begun_reembedding_is_shown_and_can_be_aborted(
    services: Services, collection: str, tmp_path: Path
) -> None:
    shelf = library(services, collection)
    await shelf.put("a", 2)
    await services.documents.begin_generation(collection, NEW.fingerprint, NEW.dim)
    shown = await asyncio.to_thread(command, tmp_path, collection, "--status", "--json")
    assert json.loads(shown.stdout) == {
        "collection": collection,
        "stage": "filling",
        "embedder": OLD.fingerprint,
        "generation": 1,
        "next_embedder": NEW.fingerprint,
        "documents": 1,
        "documents_done": 0,
        "pages": 2,
        "pages_done": 0,
    }
    aborted = await asyncio.to_thread(command, tmp_path, collection, "--abort")
    assert (aborted.exit_code, aborted.stdout) == (0, f"{collection}: 2 pages with {OLD.fingerprint}\n")
    unknown = await asyncio.to_thread(command, tmp_path, "unknown", "--status")
    assert (unknown.exit_code, unknown.stderr) == (1, "error: there is no collection 'unknown' with pages in it\n")
    assert (await asyncio.to_thread(command, tmp_path, collection, "--status", "--abort")).exit_code == 2
    await services.vectors.drop(collection)
    shelf.records.client.close()
