"""Office files and pictures that attack their converter: each ends with one clear error, and the next one converts."""

from __future__ import annotations

import asyncio
import random
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pypdfium2
import pytest

from ingestion.errors import ConversionFailed, IngestError, TooManyPages, WorkerFault
from ingestion.formats.media_types import MediaType
from ingestion.settings import ConversionSettings
from tests.contract.test_conversion import converter
from tests.support.libreoffice import needs_libreoffice
from tests.support.uploaded_files import docx, odt, picture
from workers.conversion.soffice import LibreOffice

_MACRO = (
    '<?xml version="1.0"?><!DOCTYPE script:module PUBLIC "-//OpenOffice.org//DTD OfficeDocument 1.0//EN" "module.dtd">'
    '<script:module xmlns:script="http://openoffice.org/2000/script" script:name="M" script:language="StarBasic">'
    'Sub Main\nThisComponent.Text.String = "the macro ran"\nEnd Sub</script:module>'
)
_LIBRARY = (
    '<?xml version="1.0"?><library:library xmlns:library="http://openoffice.org/2000/library" '
    'library:name="Standard" library:readonly="false" library:passwordprotected="false">'
    '<library:element library:name="M"/></library:library>'
)
_LIBRARIES = (
    '<?xml version="1.0"?><library:libraries xmlns:library="http://openoffice.org/2000/library" '
    'xmlns:xlink="http://www.w3.org/1999/xlink"><library:library library:name="Standard" library:link="false"/>'
    "</library:libraries>"
)
_ON_LOAD = (
    '<office:scripts><office:event-listeners><script:event-listener script:language="ooo:script" '
    'script:event-name="dom:load" xlink:type="simple" '
    'xlink:href="vnd.sun.star.script:Standard.M.Main?language=Basic&amp;location=document"/>'
    "</office:event-listeners></office:scripts>"
)


@pytest.fixture
def listener() -> Iterator[tuple[int, list[bytes]]]:
    """A server that notes each connection."""
    seen: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    seen.append(b"connected")

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield server.getsockname()[1], seen
        server.shutdown(socket.SHUT_RDWR)
    thread.join(5)


@needs_libreoffice
async def test_macros_do_not_run_and_nothing_outside_the_file_is_read(
    tmp_path: Path, listener: tuple[int, list[bytes]]
) -> None:
    port, seen = listener
    secret = tmp_path / "secret.txt"
    secret.write_text("a secret of this machine")
    body = (
        f'<text:p>an ordinary text<draw:frame svg:width="3cm" svg:height="3cm"><draw:image xlink:type="simple" '
        f'xlink:href="http://127.0.0.1:{port}/a.png"/></draw:frame></text:p>'
        f'<text:section text:name="s"><text:section-source xlink:type="simple" xlink:href="file://{secret}"/>'
        "<text:p>linked text</text:p></text:section>"
    )
    basic = {
        "Basic/Standard/M.xml": _MACRO,
        "Basic/Standard/script-lb.xml": _LIBRARY,
        "Basic/script-lc.xml": _LIBRARIES,
    }
    text = await converted(tmp_path, odt(body, scripts=_ON_LOAD, more=basic), MediaType.ODT)
    assert "ordinary text" in text
    assert "macro ran" not in text and "secret" not in text
    html = f'<html><body><p>an ordinary page</p><img src="http://127.0.0.1:{port}/b.png"></body></html>'.encode()
    assert "ordinary page" in await converted(tmp_path, html, MediaType.HTML)
    assert seen == []


async def converted(folder: Path, content: bytes, media_type: MediaType) -> str:
    """The text of the first page."""
    source, target = folder / f"source.{media_type.extension}", folder / "converted.pdf"
    source.write_bytes(content)
    await converter().convert(source, media_type, target)
    with pypdfium2.PdfDocument(target) as pdf:
        return str(pdf[0].get_textpage().get_text_bounded())


@needs_libreoffice
async def test_a_sheet_of_a_million_rows_ends_with_one_error_while_other_files_convert(tmp_path: Path) -> None:
    one = converter(conversion_timeout_s=4, conversion_processes=2, pages=10)
    sheet, letter = tmp_path / "sheet.csv", tmp_path / "letter.png"
    sheet.write_bytes(b"1,2,3\n" * 1_000_000)
    letter.write_bytes(picture("x", size=(60, 40)))
    long = asyncio.create_task(one.convert(sheet, MediaType.CSV, tmp_path / "sheet.pdf"))
    await one.convert(letter, MediaType.PNG, tmp_path / "letter.pdf")
    assert not long.done()
    with pytest.raises((ConversionFailed, TooManyPages)) as failed:
        await long
        raise_for_pages(tmp_path / "sheet.pdf", 10)
    assert isinstance(failed.value, IngestError) and failed.value.message


def raise_for_pages(path: Path, most: int) -> None:
    """As the worker does after a conversion: a file above the limit has one page more than it."""
    with pypdfium2.PdfDocument(path) as pdf:
        assert len(pdf) == most + 1
    raise TooManyPages("the file has more pages than are accepted")


@pytest.mark.parametrize(
    ("make", "media_type", "said"),
    [
        (lambda: docx("x", **{"word/media/a.bin": b"\0" * 30_000_000}), MediaType.DOCX, "unpacks to 30"),
        (lambda: b"text" * 300 + b"\0binary", MediaType.TEXT, "binary data"),
        (lambda: picture("x", size=(9000, 9000))[:-100], MediaType.PNG, "damaged|memory"),
    ],
)
async def test_bombs_end_with_one_error_before_a_converter_starts(
    tmp_path: Path, make: Callable[[], bytes], media_type: MediaType, said: str
) -> None:
    source = tmp_path / "source"
    source.write_bytes(make())
    one = converter(conversion_max_unpacked_bytes=20_000_000, soffice_path="not-needed")
    with pytest.raises(ConversionFailed, match=said):
        await one.convert(source, media_type, tmp_path / "converted.pdf")


@needs_libreoffice
async def test_a_pdf_above_the_file_limit_is_called_too_large_and_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.conversion.soffice._LEAST_FILE_BYTES", 0)
    source, target = tmp_path / "source.txt", tmp_path / "converted.pdf"
    incompressible = random.Random(1)
    source.write_text("".join(f"{incompressible.randbytes(30).hex()}\n" for _ in range(4_000)))
    with pytest.raises(ConversionFailed, match="larger than PAGEMILL_CONVERSION_MAX_BYTES"):
        await converter(pages=500, conversion_max_bytes=100_000).convert(source, MediaType.TEXT, target)
    assert {path.name for path in tmp_path.iterdir()} <= {"source.txt", "text.txt"}


@needs_libreoffice
async def test_a_failure_on_a_full_disk_is_the_workers_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, full = tmp_path / "source.docx", shutil.disk_usage(tmp_path)._replace(free=1_000)
    source.write_bytes(docx("x")[:-500])
    with pytest.raises(ConversionFailed):
        await LibreOffice(ConversionSettings(), most_pages=5).convert(source, MediaType.DOCX, tmp_path / "out.pdf")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    with pytest.raises(WorkerFault, match="has 1000 bytes of disk"):
        await LibreOffice(ConversionSettings(), most_pages=5).convert(source, MediaType.DOCX, tmp_path / "out.pdf")


@needs_libreoffice
async def test_a_damaged_office_file_ends_with_one_error(tmp_path: Path) -> None:
    with pytest.raises(ConversionFailed, match="damaged"):
        await converted(tmp_path, docx("x")[:-30] + b"\0" * 8, MediaType.DOCX)


@pytest.mark.parametrize(
    "script",
    [
        "mkdir out && ln -s {secret} out/source.pdf",
        "ln -s {folder} out",
        "ln -sf {secret} log; ln -sf {secret} ../log; exit 3",
    ],
)
async def test_links_that_a_converter_leaves_are_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    source, secret, target = tmp_path / "source.rtf", tmp_path / "secret" / "source.pdf", tmp_path / "converted.pdf"
    secret.parent.mkdir()
    secret.write_text("a secret of this machine")
    source.write_bytes(b"{\\rtf1}")
    shell = script.format(secret=secret, folder=secret.parent)
    monkeypatch.setattr("workers.conversion.soffice._arguments", lambda *_: ["-c", shell])
    with pytest.raises(ConversionFailed) as failed:
        await converter(soffice_path="/bin/sh").convert(source, MediaType.RTF, target)
    assert "a secret" not in failed.value.message
    assert not target.exists()
    assert secret.exists()
