"""Rendering of documents."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Protocol

from ingestion.model import Note, Page


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

    @property
    def notes(self) -> tuple[Note, ...]:
        """About the document. Pages have notes of their own."""

    def windows(self, first_page: int) -> AsyncIterator[list[Page]]:
        """From page `first_page` (from 1) to the end. A page that the file lacks is white and has a note.

        Raises PageRenderFailed, RenderTimeout, CorruptPdf.
        """


class TextReader(Protocol):
    """Reads pages without a useful text layer from their images."""

    @property
    def reads(self) -> int:
        """Grows with each page that was read, or could not be: a sign of progress."""

    async def with_text(self, pages: Sequence[Page], *, caller: str) -> list[Page]:
        """The pages, in order, with the texts that were read. A page that cannot be read stays as it is.

        Waits for a turn of `caller`, except for pages that need none. Raises WorkerFault.
        """


class Renderer(Protocol):
    async def open(self, path: Path, *, pixels: bool, caller: str = "") -> PageSource:
        """Measure the PDF at `path` and plan its rendering. `pixels`: keep the raw image of each page as well.

        A copy of the PDF that is easier to read may be written beside it.

        Callers take turns at what is scarce: documents with the same `caller` delay each other, not those of others.

        Raises EncryptedPdf, CorruptPdf, NoPages, TooManyPages.
        """
