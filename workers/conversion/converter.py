"""Chooses how a file becomes a PDF, prepares it in a confined child, and limits how many files convert at a time.

picture   -> child: Pillow -> PDF
text      -> child: UTF-8, Markdown as HTML -> LibreOffice or Gotenberg -> PDF
office    -> child: size when unpacked      -> LibreOffice or Gotenberg -> PDF
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final, TypeVar

from ingestion import metrics
from ingestion.concurrency.fair_limiter import FairLimiter, WhileWaiting
from ingestion.errors import ConversionFailed, IngestError, UnsupportedType
from ingestion.formats.archives import check_unpacked_size
from ingestion.formats.media_types import MediaType, media_type_of
from ingestion.ports import OfficeConverter
from ingestion.sandbox.failures import ChildCrashed, ChildOutOfMemory, ChildTimeout
from ingestion.sandbox.pool import Sandbox
from ingestion.settings import ConversionSettings
from workers.conversion.pictures import PictureLimits, picture_to_pdf
from workers.conversion.texts import text_to_utf8

T = TypeVar("T")

_ARCHIVES: Final = (MediaType.DOCX, MediaType.PPTX, MediaType.XLSX, MediaType.ODT, MediaType.ODP, MediaType.ODS)
_TEXT_BYTES: Final = 256 * 1024**2
"""More than a text takes as HTML."""


class FileConverter:
    """Implements the port Converter."""

    def __init__(
        self,
        settings: ConversionSettings,
        office: OfficeConverter | None,
        *,
        most_pages: int,
        page_px: int,
        while_waiting: WhileWaiting = nullcontext,
    ) -> None:
        """`office` is None where the settings turn it off. Larger pictures are scaled down to `page_px`."""
        self._settings = settings
        self._office = office
        self._limits = PictureLimits(pages=most_pages, page_px=page_px, picture_px=settings.max_picture_px)
        self._sandbox = Sandbox(
            processes=2 * settings.conversion_processes,
            memory_bytes=settings.conversion_memory_bytes,
            log_protections=False,
        )
        # A picture takes a fraction of a second: it does not wait for office files.
        self._picture_turns = FairLimiter(settings.conversion_processes, while_waiting=while_waiting)
        self._office_turns = FairLimiter(settings.conversion_processes, while_waiting=while_waiting)

    async def convert(self, source: Path, media_type: str, target: Path, *, caller: str = "") -> None:
        known = media_type_of(media_type)
        if known is None or known is MediaType.PDF:
            raise UnsupportedType(f"this worker's release does not convert files of the type {media_type!r}")
        turns = self._picture_turns if known.is_picture else self._office_turns
        async with turns.slot(caller):
            try:
                with metrics.FILE_CONVERSION.labels(media_type).time():
                    await self._convert(source, known, target)
            except IngestError as error:
                metrics.FILE_CONVERSION_FAILURES.labels(error.code).inc()
                raise

    async def _convert(self, source: Path, media_type: MediaType, target: Path) -> None:
        if media_type.is_picture:
            pdf = await self._child(
                picture_to_pdf, source, self._limits, answer_bytes=self._settings.conversion_max_bytes
            )
            await asyncio.to_thread(target.write_bytes, pdf)
            return
        if self._office is None:
            raise UnsupportedType("PAGEMILL_CONVERTER is off on this worker: only PDF files and pictures are accepted")
        if media_type in _ARCHIVES:
            await self._child(check_unpacked_size, source, self._settings.conversion_max_unpacked_bytes)
        if media_type.is_text and media_type is not MediaType.HTML:
            text = await self._child(text_to_utf8, source, media_type.value, answer_bytes=_TEXT_BYTES)
            media_type = MediaType.HTML if media_type is MediaType.MARKDOWN else media_type
            source = source.with_name(f"text.{media_type.extension}")
            await asyncio.to_thread(source.write_bytes, text)
        await self._office.convert(source, media_type, target)

    async def _child(self, function: Callable[..., T], path: Path, *args: Any, answer_bytes: int = 1024**2) -> T:
        """Raises what the function raises, ConversionFailed, ChildStalled."""
        timeout_s = self._settings.conversion_timeout_s
        try:
            name = os.path.abspath(path)  # noqa: ASYNC240, PTH100 - does not touch the file system
            return await self._sandbox.run(
                function, name, *args,
                timeout_s=timeout_s, file=path, answer_bytes=answer_bytes, keep=False,
            )  # fmt: skip
        except ChildTimeout as error:
            raise ConversionFailed(f"the file was not converted within {timeout_s:g} s of CPU time") from error
        except ChildOutOfMemory as error:
            raise ConversionFailed(
                "the file needs more memory than PAGEMILL_CONVERSION_MEMORY_BYTES allows, or its PDF is too large"
            ) from error
        except ChildCrashed as error:
            raise ConversionFailed(f"the file crashed its reader: {error}") from error
