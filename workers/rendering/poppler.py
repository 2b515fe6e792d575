"""Page images from poppler, through pdf2image.

This code runs in a render child, which may not start processes. The parent starts poppler's programs for the child,
under the same confinement, and only with the arguments that `programs` allows.
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
_PDFTOTEXT: Final = "pdftotext"
_VERSION: Final = ["-v"]
_DPI: Final = re.compile(r"[0-9]{1,6}(\.[0-9]{1,20})?(e-[0-9]{1,3})?")
_PAGE: Final = re.compile(r"[0-9]{1,9}")


class PageNotRendered(Exception):
    """The engine did not render a requested page."""


def is_installed() -> bool:
    """Returns whether pdftoppm and pdfinfo are on the PATH; pdf2image needs both."""
    return which(_PDFTOPPM) is not None and which(_PDFINFO) is not None


def programs(path: str) -> Mapping[str, Program]:
    """The programs that the parent may run for a child that renders the PDF at `path`. Empty without poppler."""
    pdftoppm, pdfinfo = which(_PDFTOPPM), which(_PDFINFO)
    if pdftoppm is None or pdfinfo is None:
        return {}
    pdftotext = which(_PDFTOTEXT)
    texts = (
        {} if pdftotext is None else {_PDFTOTEXT: Program(pdftotext, lambda arguments: _is_text_of(arguments, path))}
    )
    return texts | {
        _PDFINFO: Program(pdfinfo, lambda arguments: list(arguments) == [path]),
        _PDFTOPPM: Program(pdftoppm, lambda arguments: list(arguments) == _VERSION or _is_allowed(arguments, path)),
    }


def render_range(path: str, first_page: int, last_page: int, dpi: float) -> list[Image.Image]:
    """Returns RGB images of the crop boxes of pages `first_page` to `last_page` (from 1), in order.

    Raises PageNotRendered if an image is missing, because pdftoppm does not say which page it left out.
    """
    images = _convert(path, first_page, last_page, dpi)
    # If pdftoppm cannot render a page, it returns the previous image again and reports no error. Rendered alone,
    # such a page is 1 x 1 px, while a page that only looks like the previous one has its planned size.
    repeats = [index for index in range(1, len(images)) if images[index] == images[index - 1]]
    for index in repeats:
        number = first_page + index
        images[index] = _convert(path, number, number, dpi)[0]
    return images


def page_text(path: str, number: int) -> str:
    """Returns the text of page `number` (from 1) as poppler reads it, or "" where pdftotext is missing or fails."""
    try:
        output, _ = run_program(_PDFTOTEXT, _text_arguments(path, str(number)))
    except OSError:
        return ""
    return output.decode("utf-8", "ignore")


def _convert(path: str, first_page: int, last_page: int, dpi: float) -> list[Image.Image]:
    # pdf2image has no parameter that replaces how it starts processes.
    pdf2image.pdf2image.Popen = _RunByParent  # type: ignore[assignment,attr-defined]
    try:
        images = pdf2image.convert_from_path(
            path,
            dpi,  # type: ignore[arg-type]  # Declared as int, but pdftoppm takes fractions.
            first_page=first_page,
            last_page=last_page,
            use_cropbox=True,
        )
    except (PDFPageCountError, PDFInfoNotInstalledError) as error:
        raise PageNotRendered(f"pdfinfo cannot read the file: {error}") from error
    except (ValueError, IndexError, UnidentifiedImageError) as error:
        raise PageNotRendered(f"the output of pdftoppm is not an image: {error}") from error
    expected = last_page - first_page + 1
    if len(images) != expected:
        raise PageNotRendered(f"pdftoppm rendered {len(images)} of {expected} pages")
    try:
        for image in images:
            image.load()
    except OSError as error:
        raise PageNotRendered(f"pdftoppm wrote an incomplete image: {error}") from error
    return images


class _RunByParent:
    """The part of subprocess.Popen that pdf2image uses. The parent of this child runs the program."""

    def __init__(self, command: Sequence[str], **options: Any) -> None:
        self._output = run_program(command[0], list(command[1:]))

    def communicate(self, timeout: float | None = None) -> tuple[bytes, bytes]:
        return self._output


def _text_arguments(path: str, page: str) -> list[str]:
    return ["-f", page, "-l", page, "-enc", "UTF-8", path, "-"]


def _is_text_of(arguments: Sequence[str], path: str) -> bool:
    return (
        len(arguments) == 8
        and bool(_PAGE.fullmatch(arguments[1]))
        and list(arguments) == _text_arguments(path, arguments[1])
    )


def _is_allowed(arguments: Sequence[str], path: str) -> bool:
    """Returns whether `arguments` are -r DPI PATH -cropbox -f PAGE -l PAGE, in the order of pdf2image."""
    if len(arguments) != 8:
        return False
    r, dpi, file, cropbox, f, first, l, last = arguments  # noqa: E741
    return (
        (r, file, cropbox, f, l) == ("-r", path, "-cropbox", "-f", "-l")
        and _DPI.fullmatch(dpi) is not None
        and _PAGE.fullmatch(first) is not None
        and _PAGE.fullmatch(last) is not None
    )
