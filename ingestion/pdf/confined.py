"""Calls the functions of `pdfium` in a child of a `Sandbox`, to check an uploaded PDF and to measure its pages."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from ingestion.errors import CorruptPdf, EmptyFile, NotAPdf
from ingestion.formats.detection import PDF_MAGIC, PDF_MAGIC_WITHIN_BYTES
from ingestion.pdf.pdfium import PdfInfo, PdfLayout, read_info, read_layout
from ingestion.sandbox.failures import ChildCrashed, ChildTimeout
from ingestion.sandbox.pool import Sandbox

T = TypeVar("T")

MAGIC: Final = PDF_MAGIC
MAGIC_WITHIN_BYTES: Final = PDF_MAGIC_WITHIN_BYTES

_ANSWER_BYTES: Final = 1024**2
_COPY_FACTOR: Final = 4
"""A copy is at most this many times as large as the file: parts that were compressed together are so one by one."""
_SIZE_BYTES: Final = 64
"""More than the size of a page takes in an answer."""


class PdfTooSlow(CorruptPdf):
    """The child that read the file used up its CPU time."""


class PdfCrashed(CorruptPdf):
    """The child that read the file died of it."""


async def inspect_pdf(
    sandbox: Sandbox, path: Path, *, max_pages: int, timeout_s: float, wall_s: float | None = None
) -> PdfInfo:
    """Check that the PDF at `path` opens and has a page tree with a page.

    Only the sizes of pages are read. Their content is left to the worker that renders them.

    Raises EmptyFile, NotAPdf, EncryptedPdf, CorruptPdf, NoPages, TooManyPages, PdfTooSlow, ChildStalled.
    """
    _check_header(path)
    return await run_on_pdf(sandbox, read_info, path, max_pages, timeout_s=timeout_s, wall_s=wall_s, keep=False)


async def measure_pdf(
    sandbox: Sandbox,
    path: Path,
    *,
    max_pages: int,
    timeout_s: float,
    wall_s: float | None = None,
    keep: bool = True,
    mends: bool = True,
) -> PdfLayout:
    """As `inspect_pdf`, but returns the sizes of all pages, and a copy that is easier to read where there is one.

    `mends`: make a copy of a sound file, too, where engines misread it.
    """
    _check_header(path)
    answer_bytes = _ANSWER_BYTES + max_pages * _SIZE_BYTES + _COPY_FACTOR * os.path.getsize(path)  # noqa: ASYNC240, PTH202 - as quick as the check above
    return await run_on_pdf(
        sandbox,
        read_layout,
        path,
        max_pages,
        mends,
        timeout_s=timeout_s,
        wall_s=wall_s,
        answer_bytes=answer_bytes,
        keep=keep,
    )


def check_magic(head: bytes) -> None:
    """`head` is the first MAGIC_WITHIN_BYTES of a file, or all of it. Raises EmptyFile, NotAPdf."""
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
    """Call `function(str(path), *args)` in a child, once: a second child would die of the same file.

    `timeout_s` is CPU time. `keep`: more calls for the file will come.

    Raises PdfCrashed where the child dies, PdfTooSlow where it uses up its CPU time, and ChildStalled where the
    machine is too busy to tell.
    """
    name = os.path.abspath(path)  # noqa: ASYNC240, PTH100 - does not touch the file system; the child has another working directory
    limits: dict[str, Any] = {"timeout_s": timeout_s, "wall_s": wall_s, "answer_bytes": answer_bytes}
    try:
        return await sandbox.run(function, name, *args, file=path, keep=keep, **limits)
    except ChildTimeout as error:
        raise PdfTooSlow(f"the PDF could not be read within {timeout_s:g} s of CPU time") from error
    except ChildCrashed as error:
        raise PdfCrashed(f"the PDF crashed its reader: {error}") from error


def _check_header(path: Path) -> None:
    with path.open("rb") as file:
        check_magic(file.read(MAGIC_WITHIN_BYTES))
