"""Find the type of an uploaded file. A ZIP archive is looked into in a child process."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final

from ingestion.errors import ConversionFailed, UnsupportedType
from ingestion.formats.archives import archive_type
from ingestion.formats.detection import PDF_MAGIC_WITHIN_BYTES, ZIP, detect
from ingestion.formats.media_types import MediaType
from ingestion.sandbox.failures import ChildCrashed, ChildTimeout
from ingestion.sandbox.pool import Sandbox

_CPU_S: Final = 2.0
"""To read the directory of an archive takes milliseconds."""
_WALL_S: Final = 60.0


async def identify(sandbox: Sandbox, path: Path, filename: str, *, with_office: bool) -> MediaType:
    """The type of the file at `path`. `with_office`: whether office files and texts can be converted.

    Raises EmptyFile, EncryptedFile, NotAPdf, UnsupportedType, ConversionFailed, ChildStalled.
    """
    found = detect(await asyncio.to_thread(_head, path), filename)
    media_type = MediaType(await _archive_type(sandbox, path) if found == ZIP else found)
    if media_type.needs_office and not with_office:
        raise UnsupportedType(f"{media_type.name} files are not accepted: PAGEMILL_CONVERTER is off on this server")
    return media_type


async def _archive_type(sandbox: Sandbox, path: Path) -> str:
    try:
        name = os.path.abspath(path)  # noqa: ASYNC240, PTH100 - does not touch the file system
        return await sandbox.run(archive_type, name, timeout_s=_CPU_S, wall_s=_WALL_S, file=path, keep=False)
    except (ChildTimeout, ChildCrashed) as error:
        raise ConversionFailed(f"the ZIP archive cannot be read: {error}") from error


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(PDF_MAGIC_WITHIN_BYTES)
