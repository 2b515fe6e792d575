"""The text of a page, in a render child."""

from __future__ import annotations

import io
from contextlib import closing, suppress
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
    characters.
    """
    with suppress(*PDF_ERRORS, pypdfium2.PdfiumError), open_pdf(path) as pdf:
        page = next((leaf for place, leaf in enumerate(leaves(pdf, number), start=1) if place == number), None)
        if page is None or not _turn_fonts(page):
            return ""
        output = io.BytesIO()
        pdf.save(output)
        with pypdfium2.PdfDocument(output.getvalue()) as turned, closing(turned[number - 1].get_textpage()) as text:
            return UNWANTED.sub("", text.get_text_range())
    return ""


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
