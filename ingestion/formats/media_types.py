"""The media types of accepted files, and what each needs to become a PDF."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from ingestion.model import MOST_CONVERTED_PAGES

_OFFICE = "application/vnd.openxmlformats-officedocument."
_ODF = "application/vnd.oasis.opendocument."


class MediaType(StrEnum):
    PDF = "application/pdf"
    PNG = "image/png"
    JPEG = "image/jpeg"
    WEBP = "image/webp"
    GIF = "image/gif"
    BMP = "image/bmp"
    TIFF = "image/tiff"
    HEIC = "image/heic"
    DOCX = f"{_OFFICE}wordprocessingml.document"
    PPTX = f"{_OFFICE}presentationml.presentation"
    XLSX = f"{_OFFICE}spreadsheetml.sheet"
    ODT = f"{_ODF}text"
    ODP = f"{_ODF}presentation"
    ODS = f"{_ODF}spreadsheet"
    RTF = "application/rtf"
    HTML = "text/html"
    MARKDOWN = "text/markdown"
    CSV = "text/csv"
    TEXT = "text/plain"

    @property
    def extension(self) -> str:
        return _EXTENSIONS[self]

    @property
    def is_picture(self) -> bool:
        return self.value.startswith("image/")

    @property
    def is_text(self) -> bool:
        """True for types that have no magic bytes."""
        return self in (MediaType.HTML, MediaType.MARKDOWN, MediaType.CSV, MediaType.TEXT)

    @property
    def needs_office(self) -> bool:
        """True for types that LibreOffice or Gotenberg converts."""
        return self is not MediaType.PDF and not self.is_picture

    @property
    def most_pages(self) -> int:
        """The number of page keys that an upload reserves before the pages can be counted."""
        has_one_page = self.is_picture and self is not MediaType.TIFF
        return 1 if has_one_page else MOST_CONVERTED_PAGES


_EXTENSIONS: Final = {
    **{one: one.name.lower() for one in MediaType},
    MediaType.JPEG: "jpg",
    MediaType.MARKDOWN: "md",
    MediaType.TEXT: "txt",
}

_CONTENT_TYPES: Final = {MediaType.HTML: "text/plain"}
"""A browser that opens an uploaded HTML file should not run it."""

BY_SUFFIX: Final = {
    **{f".{extension}": media_type for media_type, extension in _EXTENSIONS.items()},
    ".jpeg": MediaType.JPEG,
    ".tif": MediaType.TIFF,
    ".heif": MediaType.HEIC,
    ".markdown": MediaType.MARKDOWN,
    ".htm": MediaType.HTML,
    ".tsv": MediaType.CSV,
    ".docm": MediaType.DOCX,
    ".pptm": MediaType.PPTX,
    ".ppsx": MediaType.PPTX,
    ".xlsm": MediaType.XLSX,
}
"""The types by the suffix of a file's name, in lower case."""


def media_type_of(value: str) -> MediaType | None:
    """None for a type that this release does not know."""
    try:
        return MediaType(value)
    except ValueError:
        return None


def content_type_of(media_type: MediaType | None) -> str:
    """Return the content type that a file of this type is stored with."""
    return "application/octet-stream" if media_type is None else _CONTENT_TYPES.get(media_type, media_type.value)
