"""The type of a file is found from its content; the name decides only between sorts of text."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingestion.errors import ConversionFailed, EmptyFile, EncryptedFile, NotAPdf, UnsupportedType
from ingestion.formats.archives import archive_type, check_unpacked_size
from ingestion.formats.detection import HEAD_BYTES, ZIP, detect
from ingestion.formats.media_types import BY_SUFFIX, MediaType
from ingestion.model import MOST_CONVERTED_PAGES
from tests.support.uploaded_files import docx, odt, picture, zipped
from tests.support.uploads import make_upload

_CONTENT_TYPES = '<Types><Override PartName="/x" ContentType="application/vnd.{}"/></Types>'


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_pictures_are_known_by_their_magic_bytes_under_any_name(image_format: str) -> None:
    head = picture("x", image_format, size=(60, 40))[:HEAD_BYTES]
    assert detect(head, "report.docx") is MediaType[image_format]


@pytest.mark.parametrize(
    ("content", "filename", "found"),
    [
        (make_upload(), "no suffix", MediaType.PDF),
        (b"\r\n\r\njunk" + make_upload(), "a.pdf", MediaType.PDF),
        (b"{\\rtf1\\ansi Hello}", "a.txt", MediaType.RTF),
        (b"\xef\xbb\xbf <!DOCTYPE html><p>Hello", "a.txt", MediaType.HTML),
        ("<html><p>Hello".encode("utf-16"), "a", MediaType.HTML),
        (b"<?xml version='1.0'?>\n<!-- c --><HTML>", "a", MediaType.HTML),
        (b"<!-- c --> <!-- d -->\n<body>", "a", MediaType.HTML),
        (b"<!---->" * 140 + b"no HTML", "a", MediaType.TEXT),
        (b"name,price\npump,12\n", "prices.CSV", MediaType.CSV),
        (b"name,price\npump,12\n", "prices", MediaType.TEXT),
        (b"# Title", "notes.md", MediaType.MARKDOWN),
        (b"a text about %PDF-1.7", "notes.txt", MediaType.TEXT),
        ("Übung".encode("cp1252"), "a.txt", MediaType.TEXT),
        (("ä" * HEAD_BYTES).encode()[1:HEAD_BYTES] + b"\n", "a.log", MediaType.TEXT),
        (b"PK\x03\x04 and more", "a.docx", ZIP),
    ],
)
def test_the_content_decides(content: bytes, filename: str, found: MediaType | str) -> None:
    assert detect(content, filename) == found


@pytest.mark.parametrize(
    ("content", "filename", "error", "said"),
    [
        (b"", "a.txt", EmptyFile, "empty"),
        (b"just text", "a.pdf", NotAPdf, "not a PDF"),
        (b"just text", "a.docx", UnsupportedType, "promises DOCX"),
        (b"just text", "a.png", UnsupportedType, "promises PNG"),
        (b"\x7fELF\0\0\0", "a", UnsupportedType, "supported types"),
        (
            b"From: a@example.org\r\nSubject: x\r\nMIME-Version: 1.0\r\n\r\nHello",
            "a.eml",
            UnsupportedType,
            "mail message",
        ),
        (b"text with a \0", "a.txt", UnsupportedType, "supported types"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0", "a.doc", UnsupportedType, "password"),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(5000) + "EncryptedPackage".encode("utf-16-le"),
            "a.docx",
            EncryptedFile,
            "save it without one",
        ),
    ],
)
def test_other_files_are_refused_with_what_to_do(
    content: bytes, filename: str, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        detect(content, filename)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (docx("Hello"), MediaType.DOCX),
        (odt("<text:p>Hello</text:p>"), MediaType.ODT),
        (zipped({"mimetype": "application/vnd.oasis.opendocument.spreadsheet"}), MediaType.ODS),
        (zipped({"mimetype": "application/vnd.oasis.opendocument.presentation-template"}), MediaType.ODP),
        *(
            (zipped({"[Content_Types].xml": _CONTENT_TYPES.format(part)}), media_type)
            for part, media_type in (
                ("openxmlformats-officedocument.presentationml.presentation.main+xml", MediaType.PPTX),
                ("openxmlformats-officedocument.spreadsheetml.sheet.main+xml", MediaType.XLSX),
                ("ms-word.document.macroEnabled.main+xml", MediaType.DOCX),
            )
        ),
    ],
)
def test_an_archive_is_known_by_what_it_declares(tmp_path: Path, content: bytes, found: MediaType) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert archive_type(str(path)) == found


@pytest.mark.parametrize("parts", [{"a.txt": "x"}, {"mimetype": "application/epub+zip"}, {"[Content_Types].xml": "<"}])
def test_another_archive_is_refused(tmp_path: Path, parts: dict[str, str]) -> None:
    path = tmp_path / "file.zip"
    path.write_bytes(zipped(parts))
    with pytest.raises(UnsupportedType):
        archive_type(str(path))


def test_an_open_document_with_a_password_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "locked.odt"
    kind = "application/vnd.oasis.opendocument.text"
    path.write_bytes(zipped({"mimetype": kind, "META-INF/manifest.xml": "<manifest:encryption-data/>"}))
    with pytest.raises(EncryptedFile):
        archive_type(str(path))


def test_a_damaged_archive_and_a_zip_bomb_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.docx"
    path.write_bytes(b"PK\x03\x04 nothing more")
    with pytest.raises(ConversionFailed, match="damaged"):
        archive_type(str(path))
    path.write_bytes(docx("Hello", **{"word/media/bomb.bin": b"\0" * 5_000_000}))
    check_unpacked_size(str(path), 6_000_000)
    with pytest.raises(ConversionFailed, match="unpacks to 50"):
        check_unpacked_size(str(path), 1_000_000)


def test_pictures_reserve_one_page_and_files_of_unknown_length_many() -> None:
    assert MediaType.PNG.most_pages == 1
    assert MediaType.TIFF.most_pages == MediaType.DOCX.most_pages == MOST_CONVERTED_PAGES
    assert BY_SUFFIX[".jpeg"] is BY_SUFFIX[".jpg"] is MediaType.JPEG
