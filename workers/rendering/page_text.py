"""The text of a page, in a render child."""

from __future__ import annotations

import io
from contextlib import closing, suppress
from math import inf
from typing import Final

import pikepdf
import pypdfium2
from pikepdf import Dictionary, Name
from pypdfium2 import raw

from ingestion.pdf.page_tree import PDF_ERRORS, inherited, leaves, open_pdf
from workers.rendering.unwanted import UNWANTED

_VERTICAL: Final = "-V"
_HORIZONTAL: Final = "-H"


def text_layer(textpage: pypdfium2.PdfTextPage) -> str:
    """The text that is inside the page, in the order of the file; "" where PDFium cannot read it."""
    try:
        return UNWANTED.sub("", textpage.get_text_bounded())
    except pypdfium2.PdfiumError:
        return ""


def has_text_objects(page: pypdfium2.PdfPage) -> bool:
    return any(
        raw.FPDFPageObj_GetType(raw.FPDFPage_GetObject(page, index)) == raw.FPDF_PAGEOBJ_TEXT
        for index in range(raw.FPDFPage_CountObjects(page))
    )


def vertical_text(path: str, number: int) -> str:
    """The text of page `number` (from 1) whose fonts write from top to bottom; "" where there is none.

    PDFium reads nothing where such a font is not in the file. It does with the horizontal encoding of the same
    characters, but in the order of horizontal lines.
    """
    with suppress(*PDF_ERRORS, pypdfium2.PdfiumError), open_pdf(path) as pdf:
        page = next((leaf for place, leaf in enumerate(leaves(pdf, number), start=1) if place == number), None)
        if page is None or not _turn_fonts(page):
            return ""
        output = io.BytesIO()
        pdf.save(output)
        with pypdfium2.PdfDocument(output.getvalue()) as turned, closing(turned[number - 1]) as turned_page:
            return UNWANTED.sub("", "\n".join(_columns(turned_page)))
    return ""


def _columns(page: pypdfium2.PdfPage) -> list[str]:
    """The texts of the columns of a page, from right to left."""
    with closing(page.get_textpage()) as textpage:
        placed = []
        for shown in page.get_objects([raw.FPDF_PAGEOBJ_TEXT], textpage=textpage):
            _, _, _, _, x, y = shown.get_matrix().get()
            with suppress(pypdfium2.PdfiumError):  # an object without letters
                placed.append((x, y, shown.get_font_size(), shown.extract().strip()))
    columns: list[list[tuple[float, str]]] = []
    last_x = inf
    for x, y, size, text in sorted(placed, reverse=True):
        if last_x - x > size / 2:
            columns.append([])
            last_x = x
        columns[-1].append((y, text))
    return ["".join(text for _, text in sorted(column, key=lambda one: -one[0])) for column in columns]


def _turn_fonts(page: Dictionary) -> bool:
    resources = inherited(page, "/Resources")
    fonts = resources.get("/Font") if isinstance(resources, Dictionary) else None
    is_turned = False
    for _, font in fonts.items() if isinstance(fonts, Dictionary) else ():
        encoding = font.get("/Encoding") if isinstance(font, Dictionary) else None
        if isinstance(encoding, Name) and str(encoding).endswith(_VERTICAL):
            font["/Encoding"] = Name(str(encoding).removesuffix(_VERTICAL) + _HORIZONTAL)
            is_turned = True
        elif isinstance(encoding, pikepdf.Stream) and encoding.get("/WMode") == 1:
            encoding["/WMode"] = 0
            is_turned = True
    return is_turned
