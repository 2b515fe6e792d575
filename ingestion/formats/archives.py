"""Look into a ZIP archive, in a child process: which office format it is, and how large it is unpacked."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Collection
from typing import Final

from ingestion.errors import ConversionFailed, EncryptedFile, UnsupportedType
from ingestion.formats.media_types import MediaType

_MOST_BYTES: Final = 4 * 1024**2
"""Of an entry that is read: the list of content types, the media type, the manifest."""
_MOST_ENTRIES: Final = 100_000
_CONTENT_TYPES: Final = "[Content_Types].xml"
_MANIFEST: Final = "META-INF/manifest.xml"
_OFFICE: Final = (
    (b"wordprocessingml.", MediaType.DOCX),
    (b"ms-word.", MediaType.DOCX),
    (b"presentationml.", MediaType.PPTX),
    (b"ms-powerpoint.", MediaType.PPTX),
    (b"spreadsheetml.", MediaType.XLSX),
    (b"ms-excel.", MediaType.XLSX),
)
_MAIN: Final = b"main+xml"
_ODF: Final = (MediaType.ODT, MediaType.ODP, MediaType.ODS)


def archive_type(path: str) -> str:
    """In the child: the media type. Raises EncryptedFile, UnsupportedType, ConversionFailed."""
    with _opened(path) as archive:
        names = set(archive.namelist())
        if _CONTENT_TYPES in names:
            return _office_type(_read(archive, _CONTENT_TYPES))
        if "mimetype" in names:
            declared = _read(archive, "mimetype").strip().removesuffix(b"-template")
            for media_type in _ODF:
                if declared == media_type.encode():
                    _require_no_password(archive, names)
                    return media_type.value
    raise UnsupportedType("a ZIP archive that is neither DOCX, PPTX, XLSX, ODT, ODP nor ODS: unpack it first")


def _require_no_password(archive: zipfile.ZipFile, names: Collection[str]) -> None:
    """For OpenDocument. An Office Open XML file with a password is no ZIP archive."""
    if _MANIFEST in names and b"encryption-data" in _read(archive, _MANIFEST):
        raise EncryptedFile("the office file needs a password: save it without one")


def check_unpacked_size(path: str, most_bytes: int) -> None:
    """In the child. Raises ConversionFailed where the archive is larger than `most_bytes` when it is unpacked.

    The sizes are those that the archive declares. A reader that unpacks more has its own limit of memory.
    """
    with _opened(path) as archive:
        entries = archive.infolist()
        size_bytes = sum(entry.file_size for entry in entries)
    if size_bytes > most_bytes or len(entries) > _MOST_ENTRIES:
        raise ConversionFailed(
            f"the file unpacks to {size_bytes} bytes in {len(entries)} parts; "
            f"PAGEMILL_CONVERSION_MAX_UNPACKED_BYTES allows {most_bytes}"
        )


def _office_type(content_types: bytes) -> str:
    """The main part decides: a text document may contain a spreadsheet."""
    for entry in content_types.split(b"<"):
        if _MAIN in entry or b".binary." in entry:
            for mark, media_type in _OFFICE:
                if mark in entry:
                    return media_type.value
    raise UnsupportedType("an office file that is neither a text document, a presentation nor a spreadsheet")


def _opened(path: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise ConversionFailed(f"the ZIP archive is damaged: {error}") from error


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        with archive.open(name) as entry:
            return entry.read(_MOST_BYTES)
    except (zipfile.BadZipFile, zlib.error, OSError, RuntimeError, NotImplementedError, EOFError) as error:
        raise ConversionFailed(f"the ZIP archive is damaged: {name}: {error}") from error
