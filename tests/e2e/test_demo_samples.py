"""Ingest, search, status and delete by the command line, on a whole stack, with the sample PDFs."""

from __future__ import annotations

import io
import json
import re
import secrets
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp import Client, StdioServerParameters
from PIL import Image

from tests.conftest import clean_environment
from tests.demo import QUESTIONS, Question
from tests.samples.generate import generate

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

PAGES = {
    "espresso-machine-manual.pdf": 8,
    "harbour-annual-report.pdf": 6,
    "householders-handbook.pdf": 60,
    "weather-station-charts.pdf": 5,
}
MORE_QUESTIONS = (
    Question("What do I replace when coffee leaks around the portafilter?", "espresso-machine-manual.pdf", 3),
    Question("The smoke detector beeps every minute, how do I make it stop?", "householders-handbook.pdf", 53),
)

Pagemill = Callable[..., "subprocess.CompletedProcess[str]"]
Ingested = tuple[str, dict[str, dict[str, Any]]]
"""A collection, and the last line that `ingest --json` printed of each file, by name."""


@pytest.fixture(scope="module")
def pagemill(stack: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Pagemill:
    """The command as a child process that finds the stack through the settings."""
    address = {"PAGEMILL_API_URL": stack["api_url"], "PAGEMILL_API_KEY": stack["api_key"]}
    folder = tmp_path_factory.mktemp("cwd")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "workers.cli", *arguments]
        environment = clean_environment() | address
        return subprocess.run(command, check=False, cwd=folder, env=environment, capture_output=True, text=True)

    return run


@pytest.fixture(scope="module")
def ingested(pagemill: Pagemill, tmp_path_factory: pytest.TempPathFactory) -> Ingested:
    """A collection with the samples, after a file that is no PDF was refused."""
    collection = f"samples_{secrets.token_hex(4)}"
    folder = tmp_path_factory.mktemp('it\'s "samples" [1]')
    generate(folder)
    (folder / "broken.PDF").write_bytes(b"no PDF at all")
    done = pagemill("ingest", str(folder), "--collection", collection, "--wait", "--json")
    assert done.returncode == 1, done.stderr  # the broken file
    return collection, {Path(line["path"]).name: line for line in _lines(done)}


def _lines(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_samples_become_ready_and_the_broken_file_is_refused(
    ingested: Ingested,
) -> None:
    _, ended = ingested
    assert ended.pop("broken.PDF")["error"]["code"] == "not_a_pdf"
    assert {name: line["pages"] for name, line in ended.items() if line["state"] == "ready"} == PAGES


@pytest.mark.parametrize("question", [*QUESTIONS, *MORE_QUESTIONS], ids=lambda question: question.document)
def test_the_right_page_comes_first(pagemill: Pagemill, ingested: Ingested, question: Question) -> None:
    hits = _lines(pagemill("search", question.text, "--collection", ingested[0], "--json"))
    assert (hits[0]["filename"], hits[0]["page"]) == (question.document, question.page)
    with Image.open(io.BytesIO(httpx.get(hits[0]["image_url"]).content)) as picture:
        assert picture.format in {"PNG", "JPEG"}


async def test_an_agent_searches_and_reads_a_page_whose_words_are_marked(
    stack: dict[str, Any], ingested: Ingested, api: httpx.Client
) -> None:
    question = QUESTIONS[0]
    address = {"PAGEMILL_API_URL": stack["api_url"], "PAGEMILL_API_KEY": stack["api_key"]}
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "workers.cli", "mcp"], env=clean_environment() | address
    )
    async with Client(server) as agent:
        found = await agent.call_tool("search_pages", {"query": question.text, "collection": ingested[0]})
        hit = found.structured_content["hits"][0]
        assert hit["filename"] == question.document
        read = await agent.call_tool("read_page", {"document_id": hit["document_id"], "page": hit["page"]})
    assert [part.type for part in read.content] == ["text", "image"]
    word = max(re.findall(r"\b[a-z]{6,}\b", api.get(hit["page_url"].removeprefix("/api/v1")).json()["text"]), key=len)
    shown = api.get(f"/documents/{hit['document_id']}/pages/{hit['page']}/highlights", params={"query": word}).json()
    assert {match["text"].lower() for match in shown["words"]} == {word}
    with Image.open(io.BytesIO(api.get(hit["page_image_url"].removeprefix("/api/v1")).content)) as picture:
        grey = picture.convert("L")
    for match in shown["words"]:
        left, top, right, bottom = match["box"]
        box = (left * grey.width, top * grey.height, right * grey.width, bottom * grey.height)
        darkest, lightest = grey.crop(tuple(map(int, box))).getextrema()
        assert lightest - darkest > 100, match


def test_status_lists_the_collection(pagemill: Pagemill, ingested: Ingested) -> None:
    listed = _lines(pagemill("status", "--collection", ingested[0], "--json"))
    assert {line["filename"]: (line["state"], line["pages_done"]) for line in listed} == {
        name: ("ready", pages) for name, pages in PAGES.items()
    }


def test_a_deleted_document_is_gone_and_no_longer_found(pagemill: Pagemill, tmp_path: Path) -> None:
    collection = f"deleted_{secrets.token_hex(4)}"
    charts = next(path for path in generate(tmp_path) if path.name.startswith("weather"))
    (line,) = _lines(pagemill("ingest", str(charts), "--collection", collection, "--wait", "--json"))
    deleted = pagemill("delete", line["document_id"], "--yes")
    assert (deleted.returncode, deleted.stdout) == (0, f"deleted {charts.name} {line['document_id']}\n")
    assert pagemill("status", line["document_id"]).returncode == 1
    assert pagemill("search", "rain", "--collection", collection, "--json").stdout == ""
