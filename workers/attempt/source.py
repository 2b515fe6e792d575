"""The PDF that an attempt renders: the uploaded file, or what it was converted to."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import structlog

from ingestion.errors import ConverterMissing, NotFound, SourceMissing
from ingestion.model import PDF_MEDIA_TYPE, Document, converted_key
from ingestion.ports import BlobStore, Converter
from ingestion.retrying import retrying
from workers.attempt.stall import WatchedAttempt, bytes_in

log = structlog.get_logger(__name__)

_SOURCE: Final = "source"
_CONVERTED: Final = "converted.pdf"


@asynccontextmanager
async def open_source(
    document: Document, blobs: BlobStore, converter: Converter | None, watched: WatchedAttempt
) -> AsyncIterator[Path]:
    """The path of the PDF during the block. A conversion is stored, so that later attempts need none.

    Raises SourceMissing, what Converter.convert raises, DependencyUnavailable.
    """
    with tempfile.TemporaryDirectory(prefix="pagemill-") as name:
        folder = Path(name)
        if document.is_converted:
            yield await _converted(document, blobs, converter, watched, folder)
        else:
            yield await _fetched(document, blobs, watched, folder / f"{_SOURCE}.pdf")


async def _converted(
    document: Document, blobs: BlobStore, converter: Converter | None, watched: WatchedAttempt, folder: Path
) -> Path:
    target, key = folder / _CONVERTED, converted_key(document.id)
    # An earlier conversion whose pages could not be counted may be the cause of the failure.
    is_first_try = document.attempts <= 1 and not document.pages
    with watched.stage("fetch", lambda: bytes_in(folder)):
        try:
            if not is_first_try:
                await retrying(blobs.fetch_file, key, target)
                return target
        except NotFound:
            pass  # it has not been converted yet
    extension = Path(document.object_key).suffix
    source = await _fetched(document, blobs, watched, folder / f"{_SOURCE}{extension}")
    with watched.stage("convert"):
        if converter is None:
            raise ConverterMissing("this worker converts no files")
        await retrying(lambda: converter.convert(source, document.media_type, target, caller=document.turn_name))
    source.unlink()
    with watched.stage("store"):
        await retrying(blobs.put_file, key, target, PDF_MEDIA_TYPE)
    log.info(
        "converted", document_id=document.id, collection=document.collection, media_type=document.media_type,
        size_bytes=target.stat().st_size,
    )  # fmt: skip
    return target


async def _fetched(document: Document, blobs: BlobStore, watched: WatchedAttempt, path: Path) -> Path:
    with watched.stage("fetch", lambda: bytes_in(path.parent)):
        try:
            await retrying(blobs.fetch_file, document.object_key, path)
        except NotFound as error:
            raise SourceMissing(f"the uploaded file is gone from the object store: {error.message}") from error
    return path
