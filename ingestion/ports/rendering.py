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
        """The DPI of the policy. The pixel cap can lower it for single pages."""

    @property
    def render_calls(self) -> int:
        """Grows with each render call that has ended, well or not: a sign that rendering makes progress."""

    def windows(self, first_page: int) -> AsyncIterator[list[Page]]:
        """From page `first_page` (from 1) to the end. Raises PageRenderFailed, RenderTimeout, CorruptPdf."""


class Renderer(Protocol):
    async def open(self, path: Path, *, pixels: bool, caller: str = "") -> PageSource:
        """Measure the PDF at `path` and plan its rendering. `pixels`: keep the raw image of each page as well.

        Callers take turns at what is scarce: documents with the same `caller` delay each other, not those of others.

        Raises EncryptedPdf, CorruptPdf, NoPages, TooManyPages.
        """
