"""Look into a PDF before anything is made of it: does it open, how many pages has it, how large are they.

PDFium runs on hostile files here, and it is not thread-safe, so all of it happens in children of a `Sandbox`, one
file per child at a time.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import pypdfium2
from pypdfium2.raw import FPDF_ERR_PASSWORD, FPDF_ERR_SECURITY, FPDF_CloseDocument, FPDF_LoadDocument

from ingestion.errors import CorruptPdf, EmptyFile, EncryptedPdf, NoPages, NotAPdf, TooManyPages
from ingestion.sandbox import ChildCrashed, ChildTimeout, Sandbox

T = TypeVar("T")

MAGIC: Final = b"%PDF-"
MAGIC_WITHIN_BYTES: Final = 1024
"""Readers accept the header anywhere in the first 1024 bytes (ISO 32000-1, annex H.3, note 13)."""

A4_POINTS: Final = (595.0, 842.0)


@dataclass(frozen=True, slots=True)
class PdfInfo:
    pages: int


async def inspect_pdf(sandbox: Sandbox, path: Path, *, max_pages: int, timeout_s: float) -> PdfInfo:
    """Check that a renderer will be able to work on `path`: it opens, and its first page loads.

    Raises EmptyFile, NotAPdf, EncryptedPdf, CorruptPdf, NoPages, TooManyPages, ChildStalled.
    """
    _check_header(path)
    info = await run_on_pdf(sandbox, read_info, path, timeout_s=timeout_s, keep=False)
    _check_count(info.pages, max_pages)
    return info


async def measure_pdf(sandbox: Sandbox, path: Path, *, max_pages: int, timeout_s: float) -> list[tuple[float, float]]:
    """As `inspect_pdf`, and (width, height) in points of every page as it is shown."""
    _check_header(path)
    return await run_on_pdf(sandbox, page_sizes, path, max_pages, timeout_s=timeout_s)


def check_magic(head: bytes) -> None:
    """`head` is how a file begins: MAGIC_WITHIN_BYTES of it, or all. Raises EmptyFile, NotAPdf."""
    if not head:
        raise EmptyFile("the file is empty")
    if MAGIC not in head[:MAGIC_WITHIN_BYTES]:
        raise NotAPdf(f"not a PDF: the first {MAGIC_WITHIN_BYTES} bytes hold no {MAGIC.decode()!r}")


async def run_on_pdf(
    sandbox: Sandbox, function: Callable[..., T], path: Path, *args: object, timeout_s: float, keep: bool = True
) -> T:
    """Call `function(str(path), *args)` in a child.

    `timeout_s` is CPU time. `keep`: more calls for the file will come.

    A file that twice kills its reader, or takes longer, is CorruptPdf. Raises ChildStalled where the machine is too
    busy to tell.
    """
    name = os.path.abspath(path)  # noqa: ASYNC240, PTH100 - asks no file system; the child runs in another folder
    limits: dict[str, Any] = {"timeout_s": timeout_s, "file": path, "keep": keep}
    try:
        try:
            return await sandbox.run(function, name, *args, **limits)
        except ChildCrashed:
            # A child may have died of something that the file has no part in.
            return await sandbox.run(function, name, *args, **limits)
    except ChildTimeout as error:
        raise CorruptPdf(f"the PDF could not be read within {timeout_s:g} s of CPU time") from error
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
        _check_count(pages, max_pages)  # before anything is made of it: a file may claim a billion pages
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
    try:
        pdf[0].close()
    except pypdfium2.PdfiumError as error:
        raise CorruptPdf(f"the first page does not load: {error}") from error


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
    with suppress(pypdfium2.PdfiumError):
        width, height = pdf.get_page_size(index)
        return float(width), float(height)
    return None
