"""Rendering of documents."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

from ingestion.model import Page


class PageSource(Protocol):
    """A document being rendered. `windows` yields consecutive windows of pages and keeps none of them."""

    @property
    def pages(self) -> int: ...

    @property
    def dpi(self) -> int:
        """What the policy chose; single pages may be drawn at less because of the pixel cap."""

    @property
    def render_calls(self) -> int:
        """Grows with each drawing that has ended, well or not: a sign that rendering gets on."""

    def windows(self, first_page: int) -> AsyncIterator[list[Page]]:
        """From page `first_page` (from 1) to the end. Raises PageRenderFailed, RenderTimeout, CorruptPdf."""


class Renderer(Protocol):
    async def open(self, path: Path, *, pixels: bool) -> PageSource:
        """Look at the PDF at `path` and plan its rendering. `pixels`: keep the raw picture of each page as well.

        Raises EncryptedPdf, CorruptPdf, NoPages, TooManyPages.
        """
