"""The words of a PDF page and their boxes, from its text layer. Code of a render child."""

from __future__ import annotations

import ctypes
from typing import Final

import pypdfium2
from pypdfium2.raw import (
    FPDF_PageToDevice,
    FPDFText_CountChars,
    FPDFText_CountRects,
    FPDFText_GetRect,
    FPDFText_GetUnicode,
)

from ingestion.words.boxes import MOST_WORDS, SCALE, Box, Word
from ingestion.words.splitting import spans_of

_SURROGATES: Final = range(0xD800, 0xE000)
_LAST: Final = 0x110000
_UPRIGHT: Final = 0
"""PDFium turns the page as the file says, and no further."""


def page_words(page: pypdfium2.PdfPage, textpage: pypdfium2.PdfTextPage, max_chars: int) -> list[Word]:
    """The words inside the page in the order of the file. Takes about 3 ms for 400 words."""
    # One character for each of PDFium's, so that positions in this text are positions in the text page.
    count = min(FPDFText_CountChars(textpage), max_chars)
    text = "".join(_character(FPDFText_GetUnicode(textpage, at)) for at in range(count))
    words = list[Word]()
    for start, end in spans_of(text):
        if len(words) == MOST_WORDS:
            break
        box = _box(page, textpage, start, end - start)
        if box is not None:
            words.append(Word(text[start:end], box))
    return words


def _character(code: int) -> str:
    return chr(code) if 0 < code < _LAST and code not in _SURROGATES else " "


def _box(page: pypdfium2.PdfPage, textpage: pypdfium2.PdfTextPage, start: int, count: int) -> Box | None:
    """The first rectangle of these characters on the upright page, None if it is outside of the page."""
    if FPDFText_CountRects(textpage, start, count) < 1:
        return None
    left, top, right, bottom = (ctypes.c_double() for _ in range(4))
    if not FPDFText_GetRect(textpage, 0, left, top, right, bottom):
        return None
    (x0, y0), (x1, y1) = _on_page(page, left.value, top.value), _on_page(page, right.value, bottom.value)
    box = max(min(x0, x1), 0), max(min(y0, y1), 0), min(max(x0, x1), SCALE), min(max(y0, y1), SCALE)
    return box if box[0] < box[2] and box[1] < box[3] else None


def _on_page(page: pypdfium2.PdfPage, x_pt: float, y_pt: float) -> tuple[int, int]:
    """From points of the file, which begin at the bottom, to SCALE-ths of the page as it is shown."""
    x, y = ctypes.c_int(), ctypes.c_int()
    FPDF_PageToDevice(page, 0, 0, SCALE, SCALE, _UPRIGHT, x_pt, y_pt, x, y)
    return x.value, y.value
