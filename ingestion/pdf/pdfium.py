"""Read a PDF with PDFium, in a child: check that it opens, count its pages, and measure them.

PDFium reads hostile bytes here. It is not thread-safe: a child makes one call at a time.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

import pypdfium2
from pypdfium2.raw import (
    FPDF_ERR_PASSWORD,
    FPDF_ERR_SECURITY,
    FS_SIZEF,
    FPDF_CloseDocument,
    FPDF_GetPageSizeByIndexF,
    FPDF_LoadDocument,
)

from ingestion.errors import CorruptPdf, EncryptedPdf, NoPages, TooManyPages

A4_POINTS: Final = (595.0, 842.0)


@dataclass(frozen=True, slots=True)
class PdfInfo:
    pages: int


def read_info(path: str) -> PdfInfo:
    """In the child. Raises EncryptedPdf, CorruptPdf, NoPages."""
    with _open(path) as pdf:
        pages = _count_pages(pdf)
        _check_first_page(pdf)
    return PdfInfo(pages)


def page_sizes(path: str, max_pages: int) -> list[tuple[float, float]]:
    """In the child: (width, height) of every page in points, after its rotation.

    A page that does not load counts as A4, so that one broken page does not fail the others.
    Raises EncryptedPdf, CorruptPdf, NoPages, TooManyPages.
    """
    with _open(path) as pdf:
        pages = _count_pages(pdf)
        check_count(pages, max_pages)  # a file may claim a million pages
        _check_first_page(pdf)
        return [_page_size(pdf, index) or A4_POINTS for index in range(pages)]


def _open(path: str) -> pypdfium2.PdfDocument:
    """Raises EncryptedPdf, CorruptPdf, NoPages."""
    try:
        return pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        if _opens(path):
            raise NoPages("the PDF has no pages") from error
        if error.err_code == FPDF_ERR_PASSWORD:
            raise EncryptedPdf("the PDF is encrypted and needs a password") from error
        if error.err_code == FPDF_ERR_SECURITY:
            raise EncryptedPdf("the PDF is encrypted in a way that cannot be read") from error
        raise CorruptPdf(f"the PDF does not open: {error}") from error


def _opens(path: str) -> bool:
    """False where PDFium refuses the file.

    pypdfium2 also raises for a document without pages, with PDFium's last error, which may be of an earlier file.
    """
    document = FPDF_LoadDocument(os.fsencode(path) + b"\0", None)
    if document:
        FPDF_CloseDocument(document)
    return bool(document)


def check_count(pages: int, max_pages: int) -> None:
    if pages > max_pages:
        raise TooManyPages(f"the PDF has {pages} pages, more than the {max_pages} that are accepted")


def _check_first_page(pdf: pypdfium2.PdfDocument) -> None:
    """Raises CorruptPdf.

    The page is not loaded: PDFium would read its content, and a file of 581 bytes can make it use gigabytes.
    """
    if _page_size(pdf, 0) is None:
        raise CorruptPdf("the first page does not load: it is missing from the page tree, or damaged")


def _count_pages(pdf: pypdfium2.PdfDocument) -> int:
    """The number of the last page that exists. PDFium returns the page count that the file claims.

    Raises NoPages.
    """
    pages = len(pdf)
    while pages and _page_size(pdf, pages - 1) is None:
        pages -= 1
    if not pages:
        raise NoPages("the PDF has no pages")
    return pages


def _page_size(pdf: pypdfium2.PdfDocument, index: int) -> tuple[float, float] | None:
    """None where the page is missing. PDFium reads the page's dictionary, not its content."""
    size = FS_SIZEF()
    # pypdfium2 raises for each missing page, which is slow: a file may claim to have a million of them.
    return (size.width, size.height) if FPDF_GetPageSizeByIndexF(pdf, index, size) else None
