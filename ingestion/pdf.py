"""Look into a PDF before anything is made of it: does it open, how many pages has it, how large are they.

PDFium runs on hostile files here, and it is not thread-safe, so all of it happens in children of a `Sandbox`, one
file per child at a time.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import pypdfium2
from pypdfium2.raw import (
    FPDF_ERR_PASSWORD,
    FPDF_ERR_SECURITY,
    FS_SIZEF,
    FPDF_CloseDocument,
    FPDF_GetPageSizeByIndexF,
    FPDF_LoadDocument,
)

from ingestion.errors import CorruptPdf, EmptyFile, EncryptedPdf, NoPages, NotAPdf, TooManyPages
from ingestion.sandbox import ChildCrashed, ChildTimeout, Sandbox

T = TypeVar("T")

MAGIC: Final = b"%PDF-"
MAGIC_WITHIN_BYTES: Final = 1024
"""Readers accept the header anywhere in the first 1024 bytes (ISO 32000-1, annex H.3, note 13)."""

A4_POINTS: Final = (595.0, 842.0)

_ANSWER_BYTES: Final = 1024**2
_SIZE_BYTES: Final = 64
"""More than the size of a page takes in an answer."""


@dataclass(frozen=True, slots=True)
class PdfInfo:
    pages: int


class PdfTooSlow(CorruptPdf):
    """The reader of the file has used up its CPU time."""


async def inspect_pdf(
    sandbox: Sandbox, path: Path, *, max_pages: int, timeout_s: float, wall_s: float | None = None
) -> PdfInfo:
    """Check that a renderer will be able to work on `path`: it opens, and has a page tree with a first page.

    Nothing of a page is read but its size: what is on it is for a worker to find out.

    Raises EmptyFile, NotAPdf, EncryptedPdf, CorruptPdf, NoPages, TooManyPages, PdfTooSlow, ChildStalled.
    """
    _check_header(path)
    info = await run_on_pdf(sandbox, read_info, path, timeout_s=timeout_s, wall_s=wall_s, keep=False)
    _check_count(info.pages, max_pages)
    return info


async def measure_pdf(
    sandbox: Sandbox,
    path: Path,
    *,
    max_pages: int,
    timeout_s: float,
    wall_s: float | None = None,
    keep: bool = True,
) -> list[tuple[float, float]]:
    """As `inspect_pdf`, and (width, height) in points of every page as it is shown."""
    _check_header(path)
    answer_bytes = _ANSWER_BYTES + max_pages * _SIZE_BYTES
    return await run_on_pdf(
        sandbox,
        page_sizes,
        path,
        max_pages,
        timeout_s=timeout_s,
        wall_s=wall_s,
        answer_bytes=answer_bytes,
        keep=keep,
    )


def check_magic(head: bytes) -> None:
    """`head` is how a file begins: MAGIC_WITHIN_BYTES of it, or all. Raises EmptyFile, NotAPdf."""
    if not head:
        raise EmptyFile("the file is empty")
    if MAGIC not in head[:MAGIC_WITHIN_BYTES]:
        raise NotAPdf(f"not a PDF: the first {MAGIC_WITHIN_BYTES} bytes hold no {MAGIC.decode()!r}")


async def run_on_pdf(
    sandbox: Sandbox,
    function: Callable[..., T],
    path: Path,
    *args: object,
    timeout_s: float,
    wall_s: float | None = None,
    answer_bytes: int = _ANSWER_BYTES,
    keep: bool = True,
) -> T:
    """Call `function(str(path), *args)` in a child, once: what a child died of, the next one would die of too.

    `timeout_s` is CPU time. `keep`: more calls for the file will come.

    A file that kills its reader is CorruptPdf. Raises PdfTooSlow, and ChildStalled where the machine is too busy to
    tell.
    """
    name = os.path.abspath(path)  # noqa: ASYNC240, PTH100 - asks no file system; the child runs in another folder
    limits: dict[str, Any] = {"timeout_s": timeout_s, "wall_s": wall_s, "answer_bytes": answer_bytes}
    try:
        return await sandbox.run(function, name, *args, file=path, keep=keep, **limits)
    except ChildTimeout as error:
        raise PdfTooSlow(f"the PDF could not be read within {timeout_s:g} s of CPU time") from error
    except ChildCrashed as error:
        raise CorruptPdf(f"the PDF crashed its reader: {error}") from error


def read_info(path: str) -> PdfInfo:
    """In the child. Raises EncryptedPdf, CorruptPdf, NoPages."""
    with _open(path) as pdf:
        pages = _count_pages(pdf)
        _check_first_page(pdf)
    return PdfInfo(pages)


def page_sizes(path: str, max_pages: int) -> list[tuple[float, float]]:
    """In the child: (width, height) in points of every page as it is shown, that is after its rotation.

    A page that does not load counts as A4, so that one broken page does not cost the others.
    Raises EncryptedPdf, CorruptPdf, NoPages, TooManyPages.
    """
    with _open(path) as pdf:
        pages = _count_pages(pdf)
        _check_count(pages, max_pages)  # a file may claim a million pages
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

    pypdfium2 raises for a document without pages too, with whatever error PDFium met last, in an earlier file perhaps.
    """
    document = FPDF_LoadDocument(os.fsencode(path) + b"\0", None)
    if document:
        FPDF_CloseDocument(document)
    return bool(document)


def _check_header(path: Path) -> None:
    with path.open("rb") as file:
        check_magic(file.read(MAGIC_WITHIN_BYTES))


def _check_count(pages: int, max_pages: int) -> None:
    if pages > max_pages:
        raise TooManyPages(f"the PDF has {pages} pages, more than the {max_pages} that are accepted")


def _check_first_page(pdf: pypdfium2.PdfDocument) -> None:
    """Raises CorruptPdf. The page is not loaded: PDFium would read all that is on it, and 581 bytes may ask for
    gigabytes."""
    if _page_size(pdf, 0) is None:
        raise CorruptPdf("the first page does not load: it is missing from the page tree, or damaged")


def _count_pages(pdf: pypdfium2.PdfDocument) -> int:
    """The number of the last page that is there. PDFium itself believes what the file says of its page count.

    Raises NoPages.
    """
    pages = len(pdf)
    while pages and _page_size(pdf, pages - 1) is None:
        pages -= 1
    if not pages:
        raise NoPages("the PDF has no pages")
    return pages


def _page_size(pdf: pypdfium2.PdfDocument, index: int) -> tuple[float, float] | None:
    """None where the page is missing. PDFium reads the page's own dictionary, not what is on the page."""
    size = FS_SIZEF()
    # pypdfium2 would raise for each page that is missing, and a file may claim to have a million of them.
    return (size.width, size.height) if FPDF_GetPageSizeByIndexF(pdf, index, size) else None
