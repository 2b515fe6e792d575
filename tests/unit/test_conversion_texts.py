"""Texts are made UTF-8, Markdown HTML, and CSV comma-separated, before LibreOffice reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingestion.errors import ConversionFailed
from ingestion.formats.media_types import MediaType
from workers.conversion.texts import text_to_utf8


def made(folder: Path, content: bytes, media_type: MediaType = MediaType.TEXT) -> str:
    path = folder / "text"
    path.write_bytes(content)
    return text_to_utf8(str(path), media_type).decode()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_a_text_is_decoded(tmp_path: Path, encoding: str) -> None:
    assert made(tmp_path, "Übung für alle".encode(encoding)) == "Übung für alle"


def test_binary_data_behind_a_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConversionFailed, match="binary data"):
        made(tmp_path, b"text\n" * 500 + b"\0\1")


def test_markdown_becomes_html_and_its_own_html_stays_text(tmp_path: Path) -> None:
    html = made(tmp_path, b"# Title\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n<script>x</script>", MediaType.MARKDOWN)
    assert "<h1>Title</h1>" in html and "<td>1</td>" in html and 'charset="utf-8"' in html
    assert "<script>" not in html


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (b"a,b\n1,2\n", "a,b\n1,2\n"),
        (b"name;price\npump;12,5\n", 'name,price\r\npump,"12,5"\r\n'),
        (b"a\tb\n1, one\t2\n", 'a,b\r\n"1, one",2\r\n'),
        (b"a|b\n1|2\n", "a,b\r\n1,2\r\n"),
        (b"one column\n", "one column\n"),
    ],
)
def test_the_separator_of_a_csv_file_is_found(tmp_path: Path, content: bytes, rows: str) -> None:
    assert made(tmp_path, content, MediaType.CSV) == rows
