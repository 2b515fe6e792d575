"""Inspection of PDFs: the page count of valid files, and the reason for refused ones."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from fpdf import FPDF

from ingestion.errors import (
    ChildStalled,
    CorruptPdf,
    EmptyFile,
    EncryptedPdf,
    NoPages,
    NotAPdf,
    PermanentError,
    TooManyPages,
)
from ingestion.pdf.confined import inspect_pdf, measure_pdf, run_on_pdf
from ingestion.pdf.pdfium import A4_POINTS, read_info, read_layout
from ingestion.sandbox.pool import Sandbox
from tests.support.pdfs import make_pdf
from tests.support.uploads import make_upload

in_one_loop = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    """One launcher for the tests of one event loop. Each file gets a child of its own."""
    return Sandbox(processes=1, memory_bytes=1024**3)


@pytest.fixture
def stored(tmp_path: Path) -> Callable[[bytes], Path]:
    def store(content: bytes) -> Path:
        path = tmp_path / "file.pdf"
        path.write_bytes(content)
        return path

    return store


async def inspect(sandbox: Sandbox, path: Path, max_pages: int = 10_000) -> int:
    return (await inspect_pdf(sandbox, path, max_pages=max_pages, timeout_s=30)).pages


@in_one_loop
@pytest.mark.parametrize(
    ("content", "pages"),
    [
        pytest.param(make_upload(3), 3, id="plain"),
        pytest.param(make_upload(2, ("owner", "")), 2, id="encrypted, but anybody may read it"),
        pytest.param(b"junk before the header\n" * 40 + make_upload(1), 1, id="header not at the start"),
        pytest.param(make_upload(3).replace(b"/Count 3", b"/Count 9"), 3, id="claims more pages than it has"),
        pytest.param(make_upload(3).replace(b"/Count 3", b"/Count 0"), 3, id="claims to have none"),
        pytest.param(make_upload(3) + b"\0" * 5000, 3, id="padded at the end"),
    ],
)
async def test_pages_of_a_valid_file_are_counted(
    sandbox: Sandbox, stored: Callable[[bytes], Path], content: bytes, pages: int
) -> None:
    path = stored(content)
    assert await inspect(sandbox, path) == pages
    assert len((await measure_pdf(sandbox, path, max_pages=pages, timeout_s=30)).sizes_pt) == pages


@in_one_loop
@pytest.mark.parametrize(
    ("content", "error", "reason"),
    [
        pytest.param(b"", EmptyFile, "empty", id="empty"),
        pytest.param(b"PK\x03\x04 a zip file", NotAPdf, "not a PDF", id="another format"),
        pytest.param(b" " * 65_536 + make_upload(), NotAPdf, "not a PDF", id="header too late"),
        pytest.param(b"%PDF-1.7\n" + b"garbage" * 200, CorruptPdf, "does not open", id="nothing behind the header"),
        pytest.param(make_upload()[:100], CorruptPdf, "does not open", id="cut off"),
        pytest.param(make_upload(1, ("owner", "user")), EncryptedPdf, "password", id="needs a password"),
        pytest.param(make_upload(3).replace(b"/Kids", b"/Xids"), NoPages, "no pages", id="no pages"),
        pytest.param(make_pdf([]), NoPages, "no pages", id="an empty page tree"),
        pytest.param(make_upload(4), TooManyPages, "4 pages", id="too many pages"),
    ],
)
async def test_an_unusable_file_is_refused_with_the_reason(
    sandbox: Sandbox, stored: Callable[[bytes], Path], content: bytes, error: type[PermanentError], reason: str
) -> None:
    path = stored(content)
    with pytest.raises(error, match=reason):
        await inspect(sandbox, path, max_pages=3)
    with pytest.raises(error, match=reason):
        await measure_pdf(sandbox, path, max_pages=3, timeout_s=30)


def test_a_document_without_pages_is_not_taken_for_the_encrypted_one_before_it(
    stored: Callable[[bytes], Path],
) -> None:
    with pytest.raises(EncryptedPdf):
        read_info(str(stored(make_upload(1, ("owner", "user")))), 10)
    with pytest.raises(NoPages):
        read_info(str(stored(make_pdf([]))), 10)


def never_returns(path: str) -> None:
    while True:
        pass


def waits(path: str) -> None:
    time.sleep(600)


def dies(path: str) -> None:
    os.abort()


@in_one_loop
@pytest.mark.parametrize(
    ("function", "timeout_s", "reason"), [(never_returns, 0.3, r"within 0\.3 s"), (dies, 30, "crashed its reader")]
)
async def test_a_file_that_stops_its_reader_is_corrupt(
    sandbox: Sandbox,
    stored: Callable[[bytes], Path],
    function: Callable[[str], None],
    timeout_s: float,
    reason: str,
) -> None:
    path = stored(make_upload(1))
    with pytest.raises(CorruptPdf, match=reason):
        await run_on_pdf(sandbox, function, path, timeout_s=timeout_s)
    assert (await run_on_pdf(sandbox, read_info, path, 10, timeout_s=30)).pages == 1


@in_one_loop
async def test_a_file_is_not_blamed_where_its_reader_gets_no_cpu_time(
    sandbox: Sandbox, stored: Callable[[bytes], Path]
) -> None:
    with pytest.raises(ChildStalled):
        await run_on_pdf(sandbox, waits, stored(make_upload(1)), timeout_s=0.05)


@in_one_loop
async def test_a_child_that_died_while_it_was_idle_is_not_blamed_on_the_file(
    sandbox: Sandbox, stored: Callable[[bytes], Path]
) -> None:
    idle = psutil.Process(await sandbox.run(os.getpid, timeout_s=30))
    idle.kill()
    idle.wait(10)  # without giving the event loop a chance to notice
    assert (await run_on_pdf(sandbox, read_info, stored(make_upload(2)), 10, timeout_s=30)).pages == 2


def sizes_pt(path: Path) -> list[tuple[float, float]]:
    return read_layout(str(path), 3, True).sizes_pt


def test_page_sizes_are_those_of_the_page_as_it_is_shown(tmp_path: Path) -> None:
    pdf = FPDF(unit="pt")
    pdf.add_page(format=(300, 700))
    pdf.add_page(orientation="landscape", format=(300, 700))
    pdf.output(str(tmp_path / "sizes.pdf"))
    plain = (tmp_path / "sizes.pdf").read_bytes()
    assert [tuple(map(round, size)) for size in sizes_pt(tmp_path / "sizes.pdf")] == [(300, 700), (700, 300)]
    rotated = plain.replace(b"/Type /Page\n", b"/Type /Page /Rotate 90\n")
    assert rotated != plain
    (tmp_path / "rotated.pdf").write_bytes(rotated)
    assert [tuple(map(round, size)) for size in sizes_pt(tmp_path / "rotated.pdf")] == [
        (700, 300),
        (300, 700),
    ]


def test_a_page_that_does_not_load_counts_as_a4(tmp_path: Path) -> None:
    content = make_upload(3)
    path = tmp_path / "broken.pdf"
    path.write_bytes(content.replace(b"\n5 0 R\n", b"\n9999 0 R\n"))
    assert path.read_bytes() != content
    sizes = sizes_pt(path)
    assert len(sizes) == 3
    assert sizes[1] == A4_POINTS
