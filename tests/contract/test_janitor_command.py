"""The command `pagemill janitor`: its output and its exit status."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from ingestion.bootstrap import Services
from ingestion.model import DocumentState, document_prefix, image_key, source_key, vectors_key
from tests.support.documents import document
from tests.support.shelf import Shelf, open_shelf
from workers.audit.contents import ContentsAudit
from workers.audit.mismatch import Mismatch
from workers.cli import app


@pytest.fixture
async def shelf(services: Services, collection: str) -> AsyncIterator[Shelf]:
    async with open_shelf(services, collection) as shelf:
        yield shelf


async def add_unrecorded_objects(shelf: Shelf) -> None:
    for key in (source_key("d0"), vectors_key("d0", 1)):
        await shelf.services.blobs.put(key, b"", "text/plain")


def janitor_command(tmp_path: Path, *options: str, orphan_grace_s: str = "0.001") -> Result:
    """`pagemill janitor` of the settings in the environment, from a folder in which no stack runs."""
    hurry = {f"PAGEMILL_JANITOR_{name}_S": "0.001" for name in ("GRACE", "SETTLE")}
    hurry["PAGEMILL_JANITOR_ORPHAN_GRACE_S"] = orphan_grace_s
    folder = Path.cwd()
    os.chdir(tmp_path)
    try:
        return CliRunner().invoke(app, ["janitor", *options], env={**os.environ, **hurry})
    finally:
        os.chdir(folder)


async def test_the_command_says_that_nothing_was_found(shelf: Shelf, tmp_path: Path) -> None:
    result = await asyncio.to_thread(janitor_command, tmp_path, "--check")
    assert (result.exit_code, result.stdout) == (0, "nothing found\n")


async def test_a_check_says_what_it_cannot_judge_yet(shelf: Shelf, tmp_path: Path) -> None:
    await add_unrecorded_objects(shelf)
    await shelf.services.blobs.put(f"archives/{shelf.collection}/x/rows.parquet", b"", "text/plain")
    checked = await asyncio.to_thread(janitor_command, tmp_path, "--check", orphan_grace_s="3600")
    assert checked.exit_code == 0
    words = " ".join(checked.stdout.split())
    assert words.startswith("nothing found 3 object(s) without a record are too young to judge")
    as_json = await asyncio.to_thread(janitor_command, tmp_path, "--check", "--json", orphan_grace_s="3600")
    [line] = [json.loads(line) for line in as_json.stdout.splitlines()]
    assert line.keys() == {"too_young", "judged_in_s"}
    assert line["too_young"] == 3
    assert 0 < line["judged_in_s"] <= 3600


async def test_a_check_reports_what_is_wrong_and_changes_nothing(shelf: Shelf, tmp_path: Path) -> None:
    await shelf.services.blobs.delete([image_key("d1", 2, "webp")])
    await add_unrecorded_objects(shelf)
    await shelf.services.documents.insert(document("d7", shelf.collection))
    result = await asyncio.to_thread(janitor_command, tmp_path, "--check", "--json")
    assert result.exit_code == 1
    assert [json.loads(line) for line in result.stdout.splitlines()] == [
        {
            "store": "s3",
            "kind": "orphan",
            "document_id": "d0",
            "collection": "",
            "what": "pages/000001.vec",
            "count": 2,
            "repaired": False,
        },
        {
            "store": "s3",
            "kind": "missing",
            "document_id": "d1",
            "collection": shelf.collection,
            "what": "pages/000002.webp",
            "count": 1,
            "repaired": False,
        },
    ]
    untouched = await shelf.services.documents.get("d7")
    assert untouched is not None
    assert (untouched.state, untouched.outbox) == (DocumentState.RECEIVED, "pending")


async def test_a_document_that_cannot_be_judged_is_said_and_no_success(shelf: Shelf, tmp_path: Path) -> None:
    await shelf.records["documents"].update_one({"_id": "d1"}, {"$set": {"pages": "four"}})
    checked = await asyncio.to_thread(janitor_command, tmp_path, "--check")
    assert checked.exit_code == 1
    assert "not judged: document d1: the record of document d1 cannot be read" in " ".join(checked.stdout.split())
    as_json = await asyncio.to_thread(janitor_command, tmp_path, "--check", "--json")
    [line] = [json.loads(line) for line in as_json.stdout.splitlines()]
    assert (as_json.exit_code, line["not_judged"], "cannot be read" in line["cause"]) == (1, "document d1", True)


async def test_a_check_that_fails_is_said_and_no_success(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(audit: ContentsAudit, id_: str) -> list[Mismatch]:
        raise KeyError("an unforeseen error")

    await shelf.services.blobs.delete([image_key("d1", 2, "webp")])
    monkeypatch.setattr(ContentsAudit, "_recheck", fail)
    checked = await asyncio.to_thread(janitor_command, tmp_path, "--check")
    assert checked.exit_code == 1
    assert "not judged: " in checked.stdout and "an unforeseen error" in checked.stdout


async def test_a_round_repairs_what_it_can_and_fails_for_the_rest(shelf: Shelf, tmp_path: Path) -> None:
    await add_unrecorded_objects(shelf)
    await shelf.services.documents.insert(
        replace(document("d7", shelf.collection), first_page_key=await shelf.services.documents.reserve_page_keys(60))
    )
    result = await asyncio.to_thread(janitor_command, tmp_path)
    assert result.exit_code == 0, result.output
    assert "repaired unpublished: 1 document(s)" in result.stdout
    assert "deleted" in result.stdout
    assert await shelf.services.blobs.list_keys(document_prefix("d0")) == []
    await shelf.services.vectors.delete_pages(shelf.collection, (await shelf.document("d1")).first_page_key, 1)
    result = await asyncio.to_thread(janitor_command, tmp_path)
    assert result.exit_code == 1
    assert "milvus" in result.stdout
    assert "delete the document and upload it again" in result.stdout


async def test_a_folder_without_a_stack_is_an_error(tmp_path: Path) -> None:
    result = await asyncio.to_thread(janitor_command, tmp_path, "--check", "--data-dir", str(tmp_path))
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: the stack is unavailable: none runs on {tmp_path}; start it with")
