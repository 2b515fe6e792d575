"""Opens PDFs for rendering: measures their pages, and makes a copy of a PDF that engines misread."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path

from ingestion.concurrency.fair_limiter import WhileWaiting
from ingestion.errors import RendererMissing
from ingestion.pdf.confined import PdfCrashed, PdfTooSlow, measure_pdf
from ingestion.pdf.pdfium import PdfLayout
from ingestion.sandbox.pool import WALL_FACTOR
from ingestion.settings import RenderSettings
from workers.rendering import poppler
from workers.rendering.fonts import InstalledFonts
from workers.rendering.lanes import OPENING_S, Lanes
from workers.rendering.page_source import PdfPageSource
from workers.rendering.render_child import Engine


def engines(renderer: str) -> tuple[Engine, ...]:
    """Returns the engine that renders first, then the engine for pages that the first one fails on.

    Raises RendererMissing if `renderer` is "poppler" and poppler is not installed.
    """
    has_poppler = poppler.is_installed()
    if renderer == "poppler" and not has_poppler:
        raise RendererMissing(
            "PAGEMILL_RENDERER is poppler, but pdftoppm and pdfinfo are not on the PATH. Install them "
            "(apt-get install poppler-utils, dnf install poppler-utils, brew install poppler), "
            "or set PAGEMILL_RENDERER to auto"
        )
    if not has_poppler:
        return ("pdfium",)
    return ("poppler", "pdfium") if renderer == "poppler" else ("pdfium", "poppler")


class PdfRenderer:
    """Implements the port Renderer."""

    def __init__(self, settings: RenderSettings, *, max_pages: int, while_waiting: WhileWaiting = nullcontext) -> None:
        """Raises RendererMissing. `while_waiting` is that of `Lanes`."""
        self._settings = settings
        self._max_pages = max_pages
        self._engines = engines(settings.renderer)
        self._lanes = Lanes(settings, self._engines[0], while_waiting=while_waiting)
        self._fonts = InstalledFonts()

    async def open(self, path: Path, *, pixels: bool, caller: str = "") -> PdfPageSource:
        caller = caller or str(path)
        layout = await self._layout(path, caller)
        if layout.copy:
            path = path.with_name(f"{path.stem}-mended.pdf")
            await asyncio.to_thread(path.write_bytes, layout.copy)
            layout = replace(layout, copy=b"")
        return PdfPageSource(
            path, layout, self._settings, self._lanes, self._engines, self._fonts, with_pixels=pixels, caller=caller
        )

    async def _layout(self, path: Path, caller: str) -> PdfLayout:
        await self._lanes.start()
        timeout_s = self._settings.render_timeout_s
        wall_s = WALL_FACTOR * timeout_s
        first_s = min(OPENING_S, timeout_s)
        # A file that takes long, or kills its reader, is not mended: it may be sound.
        with suppress(PdfTooSlow, PdfCrashed):
            async with self._lanes.short_try(caller) as sandbox:
                return await measure_pdf(sandbox, path, max_pages=self._max_pages, timeout_s=first_s, wall_s=wall_s)
        async with self._lanes.long_try(caller, "pdfium") as sandbox:
            return await measure_pdf(
                sandbox, path, max_pages=self._max_pages, timeout_s=timeout_s, keep=False, mends=False
            )
