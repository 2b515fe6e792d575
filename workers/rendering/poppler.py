"""Pictures of pages from poppler, through pdf2image. Runs in a render child, which starts no process: the child's
parent starts poppler's programs for it, confined as the child is, and only with the arguments of `programs`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from shutil import which
from typing import Any, Final

import pdf2image.pdf2image
from pdf2image.exceptions import PDFInfoNotInstalledError, PDFPageCountError
from PIL import Image, UnidentifiedImageError

from ingestion.sandbox.child import run_program
from ingestion.sandbox.programs import Program

_PDFINFO: Final = "pdfinfo"
_PDFTOPPM: Final = "pdftoppm"
_VERSION: Final = ["-v"]
_DPI: Final = re.compile(r"[0-9]{1,6}(\.[0-9]{1,20})?(e-[0-9]{1,3})?")
_PAGE: Final = re.compile(r"[0-9]{1,9}")


class PageNotRendered(Exception):
    """The engine does not draw what was ordered."""


def is_installed() -> bool:
    """pdf2image needs both programs."""
    return which(_PDFTOPPM) is not None and which(_PDFINFO) is not None


def programs(path: str) -> Mapping[str, Program]:
    """In the parent: what a child may have run in order to draw pages of the PDF at `path`. Empty without poppler."""
    pdftoppm, pdfinfo = which(_PDFTOPPM), which(_PDFINFO)
    if pdftoppm is None or pdfinfo is None:
        return {}
    return {
        _PDFINFO: Program(pdfinfo, lambda arguments: list(arguments) == [path]),
        _PDFTOPPM: Program(pdftoppm, lambda arguments: list(arguments) == _VERSION or _is_allowed(arguments, path)),
    }


def render_range(path: str, first_page: int, last_page: int, dpi: float) -> list[Image.Image]:
    """RGB pictures of the crop boxes of pages `first_page` to `last_page` (from 1), in order.

    Raises PageNotRendered where a picture is missing: with one too few, it is not known which page has none.
    """
    pictures = _convert(path, first_page, last_page, dpi)
    # Where pdftoppm cannot draw a page it hands over the page before once more and does not say so. By itself, such a
    # page comes out as 1 x 1 px, and a page that merely looks like the one before comes out as it is.
    repeats = [index for index in range(1, len(pictures)) if pictures[index] == pictures[index - 1]]
    for index in repeats:
        number = first_page + index
        pictures[index] = _convert(path, number, number, dpi)[0]
    return pictures


def _convert(path: str, first_page: int, last_page: int, dpi: float) -> list[Image.Image]:
    # pdf2image has no parameter for how it starts processes.
    pdf2image.pdf2image.Popen = _RunByParent  # type: ignore[assignment,attr-defined]
    try:
        pictures = pdf2image.convert_from_path(
            path,
            dpi,  # type: ignore[arg-type]  # A number for pdftoppm, which takes fractions.
            first_page=first_page,
            last_page=last_page,
            use_cropbox=True,
        )
    except (PDFPageCountError, PDFInfoNotInstalledError) as error:
        raise PageNotRendered(f"pdfinfo cannot read the file: {error}") from error
    except (ValueError, IndexError, UnidentifiedImageError) as error:
        raise PageNotRendered(f"what pdftoppm wrote is not a picture: {error}") from error
    due = last_page - first_page + 1
    if len(pictures) != due:
        raise PageNotRendered(f"pdftoppm drew {len(pictures)} of {due} pages")
    try:
        for picture in pictures:
            picture.load()
    except OSError as error:
        raise PageNotRendered(f"pdftoppm broke off in the middle of a picture: {error}") from error
    return pictures


class _RunByParent:
    """As much of subprocess.Popen as pdf2image uses."""

    def __init__(self, command: Sequence[str], **options: Any) -> None:
        self._written = run_program(command[0], list(command[1:]))

    def communicate(self, timeout: float | None = None) -> tuple[bytes, bytes]:
        return self._written


def _is_allowed(arguments: Sequence[str], path: str) -> bool:
    """-r DPI PATH -cropbox -f PAGE -l PAGE, as pdf2image puts it."""
    if len(arguments) != 8:
        return False
    r, dpi, file, cropbox, f, first, l, last = arguments  # noqa: E741
    return (
        (r, file, cropbox, f, l) == ("-r", path, "-cropbox", "-f", "-l")
        and _DPI.fullmatch(dpi) is not None
        and _PAGE.fullmatch(first) is not None
        and _PAGE.fullmatch(last) is not None
    )
