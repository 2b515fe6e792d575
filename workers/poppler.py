"""Pictures of pages from poppler, through pdf2image. Runs in a render child and nowhere else.

The child may be killed with SIGKILL at any moment, and poppler's own processes must not outlive it.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
from functools import partial
from math import ceil
from shutil import which

import pdf2image.pdf2image
from pdf2image.exceptions import PDFPageCountError, PDFPopplerTimeoutError
from PIL import Image, UnidentifiedImageError

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


class PageRefused(Exception):
    """The engine does not draw what was ordered."""


class PopplerTimeout(Exception):
    """Poppler was at it for too long and was killed."""


def is_installed() -> bool:
    """pdf2image needs both programs."""
    return which("pdftoppm") is not None and which("pdfinfo") is not None


def draw_range(path: str, first_page: int, last_page: int, dpi: float, timeout_s: float) -> list[Image.Image]:
    """RGB pictures of the crop boxes of pages `first_page` to `last_page` (from 1), in order.

    Raises PopplerTimeout, and PageRefused where a picture is missing: with one too few, nobody can say which page
    it is that has none.
    """
    pictures = _convert(path, first_page, last_page, dpi, timeout_s)
    # Where pdftoppm cannot draw a page it hands over the page before once more and does not say so. By itself, such a
    # page comes out as 1 x 1 px, and a page that merely looks like the one before comes out as it is.
    repeats = [index for index in range(1, len(pictures)) if pictures[index] == pictures[index - 1]]
    for index in repeats:
        number = first_page + index
        pictures[index] = _convert(path, number, number, dpi, timeout_s)[0]
    return pictures


def _convert(path: str, first_page: int, last_page: int, dpi: float, timeout_s: float) -> list[Image.Image]:
    # pdf2image has no parameter for how it starts processes, nor a time limit for pdfinfo, which it runs first.
    confine = partial(_confine, os.getpid(), ceil(timeout_s) + 1)
    pdf2image.pdf2image.Popen = partial(subprocess.Popen, preexec_fn=confine)  # type: ignore[assignment,attr-defined]
    try:
        pictures = pdf2image.convert_from_path(
            path,
            dpi,  # type: ignore[arg-type]  # A number for pdftoppm, which takes fractions.
            first_page=first_page,
            last_page=last_page,
            use_cropbox=True,
            timeout=timeout_s,  # type: ignore[arg-type]  # For Popen.communicate, likewise.
        )
    except PDFPopplerTimeoutError as error:
        raise PopplerTimeout(f"pdftoppm took longer than {timeout_s:g} s") from error
    except PDFPageCountError as error:
        raise PageRefused(f"pdfinfo cannot read the file: {error}") from error
    except (ValueError, IndexError, UnidentifiedImageError) as error:
        raise PageRefused(f"what pdftoppm wrote is not a picture: {error}") from error
    due = last_page - first_page + 1
    if len(pictures) != due:
        raise PageRefused(f"pdftoppm drew {len(pictures)} of {due} pages")
    try:
        for picture in pictures:
            picture.load()
    except OSError as error:
        raise PageRefused(f"pdftoppm broke off in the middle of a picture: {error}") from error
    return pictures


def _confine(parent: int, cpu_s: int) -> None:
    """In poppler's process, before it becomes poppler: die with the child, or else of the CPU time used."""
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    if sys.platform == "linux":
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)
