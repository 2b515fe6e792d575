"""Pages and queries whose sizes are those of real ones. What they show costs nothing."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from typing import Final

import numpy as np
import pikepdf

from ingestion.model import Page

A4_PX: Final = (2339, 1654)
"""At 200 DPI, (height, width)."""
_SHAPES_PX: Final = (A4_PX, A4_PX, A4_PX, (2200, 1700), (1080, 1920), (1654, 2339))
"""A4, letter, slides, A4 turned: their batches need padding."""
_LINES: Final = 46
_WORDS: Final = (
    "pressure boiler annual report table figure of the valve measured in bar and checked by harbour staff each quarter"
)


def page(number: int = 1, shape_px: tuple[int, int] = A4_PX) -> Page:
    height_px, width_px = shape_px
    pixels = np.full((height_px, width_px, 3), 255, np.uint8)
    pixels[number % 97 :: 97] = 40
    return Page(number, width_px, height_px, b"", "", pixels)


def mixed_pages(small: bool = False) -> Iterator[Page]:
    """Pages of several shapes, for ever; each shape's pixels exist once. `small`: a fifth of their sides."""
    shapes = [(height // 5, width // 5) if small else (height, width) for height, width in _SHAPES_PX]
    pages = [page(number, shape) for number, shape in enumerate(shapes, start=1)]
    yield from itertools.cycle(pages)


def queries() -> Iterator[str]:
    """Questions of 6 to 11 words, for ever, no two of them equal."""
    words = _WORDS.split()
    for number in itertools.count():
        start = number % (len(words) - 11)
        yield f"{number} " + " ".join(words[start : start + 5 + number % 6])


def pdf(pages: int) -> bytes:
    """A PDF of A4 pages full of text, with a coloured bar on each."""
    made = pikepdf.new()
    font = pikepdf.Dictionary(Type=pikepdf.Name.Font, Subtype=pikepdf.Name.Type1, BaseFont=pikepdf.Name.Helvetica)
    for number in range(1, pages + 1):
        made.add_blank_page(page_size=(595, 842))
        lines = [f"({number}.{line} {_WORDS}) Tj T*" for line in range(_LINES)]
        text = "0.2 0.4 0.8 rg 40 800 300 12 re f 0 g BT /F1 9 Tf 16 TL 40 780 Td " + " ".join(lines) + " ET"
        added = made.pages[-1]
        added.Resources = pikepdf.Dictionary(Font=pikepdf.Dictionary(F1=font))
        added.Contents = made.make_stream(text.encode())
    output = io.BytesIO()
    made.save(output)
    return output.getvalue()
