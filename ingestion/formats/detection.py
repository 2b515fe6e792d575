"""Find a file's type from its first bytes.

    magic bytes of a PDF, a picture, RTF or a ZIP archive    decide, whatever the file is called
    text without control characters                          HTML by its beginning; CSV and Markdown by the file's
                                                             name; else plain text
    text in a file whose name promises another type          refused: such a file is broken or mislabelled

Text is UTF-8, UTF-16 with a byte order mark, or Windows-1252. A ZIP archive is looked into later, in a child process:
see `archives`.
"""

from __future__ import annotations

import codecs
import re
from importlib.util import find_spec
from pathlib import PurePath
from typing import Final

from ingestion.errors import EmptyFile, EncryptedFile, NotAPdf, UnsupportedType
from ingestion.formats.media_types import BY_SUFFIX, MediaType

HEAD_BYTES: Final = 1024
"""The bytes that tell text from binary data."""
PDF_MAGIC_WITHIN_BYTES: Final = 64 * 1024
"""Servers put lines of their own before a file. Readers search 1024 bytes (ISO 32000-1, annex H.3)."""
PDF_MAGIC: Final = b"%PDF-"
ZIP: Final = "zip"
"""The answer of `detect` for a ZIP archive: an office file, or another archive."""

_MAGIC: Final = (
    (b"\x89PNG\r\n\x1a\n", MediaType.PNG),
    (b"\xff\xd8\xff", MediaType.JPEG),
    (b"GIF87a", MediaType.GIF),
    (b"GIF89a", MediaType.GIF),
    (b"II*\0", MediaType.TIFF),
    (b"MM\0*", MediaType.TIFF),
    (b"II+\0", MediaType.TIFF),
    (b"MM\0+", MediaType.TIFF),
    (b"{\\rtf", MediaType.RTF),
)
_ZIP_MAGIC: Final = b"PK\x03\x04"
_OLE_MAGIC: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED_STREAM: Final = "EncryptedPackage".encode("utf-16-le")
_HEIC_BRANDS: Final = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0b\x0e-\x1f\x7f]")
# A comment is an atomic group: it ends at its first "-->". Otherwise a few dozen comments would take hours.
_HTML: Final = re.compile(rb"(?:<\?xml[^>]*>\s*)?(?><!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body)\b", re.I | re.S)
_MAIL: Final = re.compile(rb"\A[A-Za-z-]{1,60}:[ \t](?:[^\n]*\n)*?MIME-Version:", re.I)
_UTF16_MARKS: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_LONGEST_CHARACTER_BYTES: Final = 4

SUPPORTED: Final = (
    "PDF, PNG, JPEG, WebP, GIF, BMP, TIFF, DOCX, PPTX, XLSX, ODT, ODP, ODS, RTF, HTML, Markdown, CSV, plain text"
)


def detect(head: bytes, filename: str) -> MediaType | str:
    """The type of a file with the first bytes `head`: PDF_MAGIC_WITHIN_BYTES of them, or the whole file.

    ZIP for an archive.

    Raises EmptyFile, EncryptedFile, NotAPdf, UnsupportedType.
    """
    if not head:
        raise EmptyFile("the file is empty")
    if head.startswith(_OLE_MAGIC):
        raise _ole(head)
    has_pdf = PDF_MAGIC in head[:PDF_MAGIC_WITHIN_BYTES]
    head = head[:HEAD_BYTES]
    if (found := _by_magic(head)) is not None:
        return found
    promised = BY_SUFFIX.get(PurePath(filename).suffix.lower())
    is_text = _is_text(head)
    if has_pdf and (promised is MediaType.PDF or not is_text):
        return MediaType.PDF
    if _MAIL.search(head) or PurePath(filename).suffix.lower() == ".eml":
        raise UnsupportedType("a mail message: save its text as PDF, and its attached files by themselves")
    if promised is MediaType.PDF:
        raise NotAPdf(f"not a PDF: the first {PDF_MAGIC_WITHIN_BYTES} bytes hold no {PDF_MAGIC.decode()!r}")
    if not is_text:
        raise UnsupportedType(f"the content is of none of the supported types: {SUPPORTED}")
    return _text_type(head, promised)


def _by_magic(head: bytes) -> MediaType | str | None:
    """None where the first bytes do not decide. Raises UnsupportedType."""
    if head.startswith(PDF_MAGIC):
        return MediaType.PDF
    for magic, media_type in _MAGIC:
        if head.startswith(magic):
            return media_type
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return MediaType.WEBP
    if head.startswith(b"BM") and len(head) > 18 and head[15:18] == b"\0\0\0":  # the size of the second header
        return MediaType.BMP
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS:
        return _heic()
    if head.startswith(_ZIP_MAGIC):
        return ZIP
    return None


def _ole(head: bytes) -> EncryptedFile | UnsupportedType:
    """The names of the streams are in the first bytes, except in large files of some programs."""
    if _ENCRYPTED_STREAM in head:
        return EncryptedFile("the office file needs a password: save it without one")
    return UnsupportedType(
        "a file of Office 97 to 2003, or an office file with a password: save it as DOCX, PPTX or XLSX without one"
    )


def _heic() -> MediaType:
    if find_spec("pillow_heif") is None:
        raise UnsupportedType("HEIC needs a library that is not installed: `pip install pillow-heif`, or send a JPEG")
    return MediaType.HEIC


def _text_type(head: bytes, promised: MediaType | None) -> MediaType:
    """Raises UnsupportedType where the name promises a type that is no text."""
    if promised is not None and not promised.is_text:
        raise UnsupportedType(f"the name promises {promised.name}, and the content is plain text")
    plain = head.decode("utf-16", "ignore").encode() if head.startswith(_UTF16_MARKS) else head
    if _HTML.match(plain.removeprefix(codecs.BOM_UTF8).lstrip()):
        return MediaType.HTML
    return promised or MediaType.TEXT


def _is_text(head: bytes) -> bool:
    if head.startswith(_UTF16_MARKS):
        return _decodes(head, "utf-16")
    if _CONTROL.search(head):
        return False
    return _decodes(head, "utf-8") or _decodes(head, "cp1252")


def _decodes(head: bytes, encoding: str) -> bool:
    """Whether `head` is text, except for a character that its end may cut."""
    try:
        head.decode(encoding)
    except UnicodeDecodeError as error:
        return len(head) >= HEAD_BYTES and error.start > len(head) - _LONGEST_CHARACTER_BYTES
    return True
