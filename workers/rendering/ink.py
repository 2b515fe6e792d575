"""Which letters of a page its image shows, in a render child. An engine may succeed and draw nothing.

Letters are doubtful where their font is not in the file: the engine draws them with another font, or not at all.
"""

from __future__ import annotations

import ctypes
import re
import sys
from dataclasses import dataclass, field
from typing import Any, Final

import pypdfium2
from PIL import Image
from pypdfium2 import raw

_LEAST_CONTRAST: Final = 8
_FOREIGN: Final = re.compile("[\u0250-\u1dff\u2c00-\ud7ff\uf900-\ufdff\ufe70-\uffef\U00010000-\U0003ffff]")
"""Engines have fonts of their own for Latin letters and for signs."""
_MOST_LETTERS: Final = 300
_INSET: Final = 0.15
"""The part of a letter's box at each side that its neighbours may reach into."""
_INVISIBLE: Final = (raw.FPDF_TEXTRENDERMODE_INVISIBLE, raw.FPDF_TEXTRENDERMODE_CLIP)


@dataclass(frozen=True, slots=True)
class Letters:
    """Distinct letters of fonts that are not in the file: those without ink, and those with ink."""

    undrawn: str = ""
    substituted: str = ""


@dataclass(slots=True)
class _Fonts:
    """Whether fonts are in the file, by the address of the font."""

    known: dict[int, bool] = field(default_factory=dict)

    def is_embedded(self, text_object: Any) -> bool:
        font = raw.FPDFTextObj_GetFont(text_object)
        if not font:
            return True
        address = ctypes.cast(font, ctypes.c_void_p).value or 0
        if address not in self.known:
            self.known[address] = raw.FPDFFont_GetIsEmbedded(font) != 0
        return self.known[address]


def has_ink(image: Image.Image) -> bool:
    extrema: Any = image.getextrema()
    bands = [extrema] if image.mode == "L" else extrema[:3]
    return any(high - low >= _LEAST_CONTRAST for low, high in bands)


def doubtful_letters(
    page: pypdfium2.PdfPage, textpage: pypdfium2.PdfTextPage, text: str, image: Image.Image
) -> Letters:
    """A sample of the letters of a page with this text is looked at."""
    if _FOREIGN.search(text) is None:
        return Letters()
    codes = [raw.FPDFText_GetUnicode(textpage, index) for index in range(textpage.count_chars())]
    letters = [index for index, code in enumerate(codes) if _is_foreign(code)]
    fonts = _Fonts()
    undrawn: set[str] = set()
    substituted: set[str] = set()
    for index in letters[:: max(1, len(letters) // _MOST_LETTERS)]:
        shown = raw.FPDFText_GetTextObject(textpage, index)
        if not shown or raw.FPDFTextObj_GetTextRenderMode(shown) in _INVISIBLE or fonts.is_embedded(shown):
            continue
        box = _box_px(page, textpage, index, image)
        if box is not None:
            (substituted if has_ink(image.crop(box)) else undrawn).add(chr(codes[index]))
    # A letter that is drawn at one place and not at another is white, or covered.
    return Letters("".join(sorted(undrawn - substituted)), "".join(sorted(substituted)))


def _is_foreign(code: int) -> bool:
    return code <= sys.maxunicode and _FOREIGN.match(chr(code)) is not None and chr(code).isalpha()


def _box_px(
    page: pypdfium2.PdfPage, textpage: pypdfium2.PdfTextPage, index: int, image: Image.Image
) -> tuple[int, int, int, int] | None:
    """(left, top, right, bottom) in the image; None for a letter that is outside, or has no area."""
    try:
        left, bottom, right, top = textpage.get_charbox(index, loose=True)
    except pypdfium2.PdfiumError:
        return None
    inset = _INSET * (right - left)
    corners = [_device_px(page, image, x, y) for x, y in ((left + inset, top), (right - inset, bottom))]
    (x0, y0), (x1, y1) = corners
    box = max(0, min(x0, x1)), max(0, min(y0, y1)), min(image.width, max(x0, x1)), min(image.height, max(y0, y1))
    return box if box[2] - box[0] >= 2 and box[3] - box[1] >= 2 else None


def _device_px(page: pypdfium2.PdfPage, image: Image.Image, x: float, y: float) -> tuple[int, int]:
    device_x, device_y = ctypes.c_int(), ctypes.c_int()
    raw.FPDF_PageToDevice(page, 0, 0, image.width, image.height, 0, x, y, device_x, device_y)
    return device_x.value, device_y.value
