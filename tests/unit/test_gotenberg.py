"""Conversion by a Gotenberg server: what it answers becomes a PDF, a failed document, or another attempt."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ingestion.adapters.gotenberg import Gotenberg
from ingestion.errors import ConversionFailed, ConverterUnavailable
from ingestion.formats.media_types import MediaType
from ingestion.settings import ConversionSettings

_PDF = b"%PDF-1.7 of a letter"


class Server(ThreadingHTTPServer):
    status = 200
    pause_s = 0.0
    """Before each byte of the answer."""
    requests: list[tuple[str, bytes]]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        self.server.requests.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
        content = _PDF if self.server.status == 200 else b"LibreOffice failed to process a document"
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        with suppress(ConnectionError):  # a client that waits no longer
            for byte in content:
                time.sleep(self.server.pause_s)
                self.wfile.write(bytes([byte]))

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        server.requests = []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
    thread.join(5)


async def convert(server: Server, folder: Path, **chosen: object) -> bytes:
    source, target = folder / "source.docx", folder / "converted.pdf"
    source.write_bytes(b"a letter")
    settings = ConversionSettings(**{"gotenberg_url": f"http://127.0.0.1:{server.server_address[1]}/", **chosen})
    await Gotenberg(settings, most_pages=7).convert(source, MediaType.DOCX, target)
    return target.read_bytes()


async def test_the_file_is_sent_with_a_range_one_page_above_the_limit(server: Server, tmp_path: Path) -> None:
    assert await convert(server, tmp_path) == _PDF
    [(path, body)] = server.requests
    assert path == "/forms/libreoffice/convert"
    assert b'filename="source.docx"' in body and b"a letter" in body and b"1-8" in body


@pytest.mark.parametrize(("status", "error"), [(400, ConversionFailed), (503, ConverterUnavailable)])
async def test_a_refusal_is_the_files_fault_and_a_failure_is_the_servers(
    server: Server, tmp_path: Path, status: int, error: type[Exception]
) -> None:
    server.status = status
    with pytest.raises(error, match=str(status)):
        await convert(server, tmp_path)


async def test_no_error_has_the_password_of_the_address(server: Server, tmp_path: Path) -> None:
    port = server.server_address[1]
    server.status = 503
    with pytest.raises(ConverterUnavailable) as refused:
        await convert(server, tmp_path, gotenberg_url=f"http://user:sesame@127.0.0.1:{port}")
    server.server_close()
    with pytest.raises(ConverterUnavailable) as unreached:
        await convert(server, tmp_path, gotenberg_url=f"http://user:sesame@127.0.0.1:{port}")
    for error in (refused.value, unreached.value):
        assert f"http://127.0.0.1:{port}/" in error.message and "sesame" not in error.message


async def test_a_pdf_that_is_too_large_fails_the_file(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ConversionFailed, match="PAGEMILL_CONVERSION_MAX_BYTES"):
        await convert(server, tmp_path, conversion_max_bytes=5)


async def test_a_server_that_answers_byte_by_byte_does_not_get_more_time(server: Server, tmp_path: Path) -> None:
    server.pause_s = 0.1
    with pytest.raises(ConverterUnavailable, match=r"no whole answer in 0\.3 s"):
        await convert(server, tmp_path, conversion_timeout_s=0.1)


async def test_a_server_that_is_down_is_another_attempt(server: Server, tmp_path: Path) -> None:
    server.server_close()
    with pytest.raises(ConverterUnavailable, match="Gotenberg at"):
        await convert(server, tmp_path)
