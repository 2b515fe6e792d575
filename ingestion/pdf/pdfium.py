"""Read a PDF with PDFium, in a child: check that it opens, count its pages, and measure them.

PDFium reads hostile bytes here. It is not thread-safe: a child makes one call at a time. A damaged file is read from a
copy that qpdf makes, where PDFium reads more pages from the copy.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import pypdfium2
from pypdfium2.raw import (
    FORMTYPE_XFA_FOREGROUND,
    FORMTYPE_XFA_FULL,
    FPDF_ERR_PASSWORD,
    FPDF_ERR_SECURITY,
    FS_SIZEF,
    FPDF_CloseDocument,
    FPDF_GetFormType,
    FPDF_GetPageSizeByIndexF,
    FPDF_LoadDocument,
    FPDFAttachment_GetName,
    FPDFDoc_GetAttachment,
    FPDFDoc_GetAttachmentCount,
    FPDFPage_GetAnnotCount,
)

from ingestion.errors import CorruptPdf, EncryptedPdf, NoPages, TooManyPages
from ingestion.pdf.mending import mended_copy, rebuilt_copy
from ingestion.pdf.page_tree import count_places

A4_POINTS: Final = (595.0, 842.0)
_MOST_ATTACHMENTS: Final = 20
_NAME_BYTES: Final = 2048


@dataclass(frozen=True, slots=True)
class PdfInfo:
    pages: int


@dataclass(frozen=True, slots=True)
class PdfLayout:
    """`sizes_pt`: (width, height) of every page in points, after its rotation; A4 for a page that does not load.

    `copy`: the file that engines have to read instead, empty where they read the file itself.
    `is_damaged`: the copy is of a damaged file. `is_xfa`: the form is not shown. `attachments`: names of files.
    """

    sizes_pt: list[tuple[float, float]]
    copy: bytes = b""
    is_damaged: bool = False
    is_xfa: bool = False
    attachments: tuple[str, ...] = ()


@dataclass(slots=True)
class _Opened:
    pdf: pypdfium2.PdfDocument
    pages: int
    loaded: int
    copy: bytes = b""


def read_info(path: str, max_pages: int) -> PdfInfo:
    """In the child. Raises EncryptedPdf, CorruptPdf, NoPages, TooManyPages."""
    with _best(path, max_pages) as opened:
        return PdfInfo(opened.pages)


def read_layout(path: str, max_pages: int, mends: bool) -> PdfLayout:
    """In the child. `mends`: look for what `mended_copy` changes.

    Raises EncryptedPdf, CorruptPdf, NoPages, TooManyPages.
    """
    with _best(path, max_pages) as best:
        is_damaged = bool(best.copy)
        mended = mended_copy(best.copy or path, max_pages) if mends else None
        opened = best
        changed = _opened(mended, max_pages) if mended else None
        if changed is not None and changed.loaded >= best.loaded and changed.pages in (best.pages, len(best.pdf)):
            changed.pages = best.pages
            opened = changed
        try:
            pdf = opened.pdf
            return PdfLayout(
                sizes_pt=[_page_size(pdf, index) or A4_POINTS for index in range(opened.pages)],
                copy=opened.copy,
                is_damaged=is_damaged,
                is_xfa=_is_xfa(pdf, opened.pages),
                attachments=_attachments(pdf),
            )
        finally:
            if opened is not best:
                opened.pdf.close()


@contextmanager
def _best(path: str, max_pages: int) -> Iterator[_Opened]:
    """The file, or a copy with new cross-references where that has more pages that load.

    Raises EncryptedPdf, CorruptPdf, NoPages, TooManyPages.
    """
    error: Exception | None = None
    opened: _Opened | None = None
    try:
        opened = _open(path, max_pages)
    except (CorruptPdf, NoPages) as cause:
        error = cause
    if opened is None or opened.loaded < opened.pages:
        copy = rebuilt_copy(path)
        rebuilt = _opened(copy, max_pages) if copy else None
        if rebuilt is not None and (opened is None or rebuilt.loaded > opened.loaded):
            if opened is not None:
                opened.pdf.close()
            else:  # a file that was cut off lacks its last pages; qpdf leaves them out
                rebuilt.pages = min(max(rebuilt.pages, count_places(path)), max_pages)
            opened = rebuilt
    if opened is None:
        raise error or CorruptPdf("the PDF does not open")
    with opened.pdf:
        yield opened


def _opened(copy: bytes, max_pages: int) -> _Opened | None:
    """A copy; None where PDFium does not open it, or it has no pages. Raises TooManyPages."""
    try:
        found = _open(copy, max_pages)
    except (EncryptedPdf, CorruptPdf, NoPages):
        return None
    found.copy = copy
    return found


def _open(source: str | bytes, max_pages: int) -> _Opened:
    """Raises EncryptedPdf, CorruptPdf, NoPages, TooManyPages."""
    try:
        pdf = pypdfium2.PdfDocument(source)
    except pypdfium2.PdfiumError as error:
        if isinstance(source, str) and _opens(source):
            raise NoPages("the PDF has no pages") from error
        if error.err_code == FPDF_ERR_PASSWORD:
            raise EncryptedPdf("the PDF is encrypted and needs a password") from error
        if error.err_code == FPDF_ERR_SECURITY:
            raise EncryptedPdf("the PDF is encrypted in a way that cannot be read") from error
        raise CorruptPdf(f"the PDF does not open: {error}") from error
    try:
        pages = _count_pages(pdf, source)
        check_count(pages, max_pages)  # a file may claim a million pages
        # Pages are not loaded: PDFium would read their content, and a file of 581 bytes can make it use gigabytes.
        loaded = sum(_page_size(pdf, index) is not None for index in range(pages))
    except BaseException:
        pdf.close()
        raise
    return _Opened(pdf, pages, loaded)


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


def _count_pages(pdf: pypdfium2.PdfDocument, source: str | bytes) -> int:
    """The number of the last page of the page tree. PDFium returns the page count that the file claims.

    Raises NoPages.
    """
    claimed = pages = len(pdf)
    while pages and _page_size(pdf, pages - 1) is None:
        pages -= 1
    if not pages:
        raise NoPages("the PDF has no pages")
    # The last pages may be claimed only, or damaged: then the tree has places for them.
    return pages if pages == claimed else min(claimed, max(pages, count_places(source)))


def _page_size(pdf: pypdfium2.PdfDocument, index: int) -> tuple[float, float] | None:
    """None where the page is missing. PDFium reads the page's dictionary, not its content."""
    size = FS_SIZEF()
    # pypdfium2 raises for each missing page, which is slow: a file may claim to have a million of them.
    return (size.width, size.height) if FPDF_GetPageSizeByIndexF(pdf, index, size) else None


def _is_xfa(pdf: pypdfium2.PdfDocument, pages: int) -> bool:
    """Whether the file has a form that PDFium does not show: one without pages, or without fields on its pages."""
    kind = FPDF_GetFormType(pdf)
    if kind == FORMTYPE_XFA_FULL:
        return True
    return kind == FORMTYPE_XFA_FOREGROUND and pages == 1 and not FPDFPage_GetAnnotCount(pdf[0])


def _attachments(pdf: pypdfium2.PdfDocument) -> tuple[str, ...]:
    names = []
    for index in range(min(FPDFDoc_GetAttachmentCount(pdf), _MOST_ATTACHMENTS)):
        attachment = FPDFDoc_GetAttachment(pdf, index)
        buffer = ctypes.create_string_buffer(_NAME_BYTES)
        size = FPDFAttachment_GetName(attachment, ctypes.cast(buffer, ctypes.POINTER(ctypes.c_ushort)), _NAME_BYTES)
        if 2 < size <= _NAME_BYTES:
            name = buffer.raw[: size - 2].decode("utf-16-le", "ignore")
            names.append("".join(one for one in name if one.isprintable()))
    return tuple(names)
