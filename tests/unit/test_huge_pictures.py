"""Pictures of which PDFium draws a part only."""

from __future__ import annotations

import io
import zlib
from contextlib import closing

import pikepdf
import pypdfium2
import pytest
from pikepdf import Dictionary, Name

from workers.rendering.huge_pictures import has_cut_picture


def pdf_with_picture(
    width_px: int, height_px: int, *, bits: int = 8, colours: str = "RGB", coding: str = "Flate", in_form: bool = False
) -> bytes:
    """The picture's data end early: its size is what counts."""
    pdf = pikepdf.new()
    shown = pdf.make_stream(
        zlib.compress(bytes(100)),
        Type=Name.XObject,
        Subtype=Name.Image,
        Width=width_px,
        Height=height_px,
        BitsPerComponent=bits,
        ColorSpace=Name(f"/Device{colours}"),
        Filter=Name(f"/{coding}Decode"),
    )
    if in_form:
        resources = Dictionary(XObject=Dictionary(Shown=shown))
        shown = pdf.make_stream(
            b"/Shown Do", Type=Name.XObject, Subtype=Name.Form, BBox=[0, 0, 1, 1], Resources=resources
        )
    page = pdf.add_blank_page(page_size=(200, 200))
    page.Resources = Dictionary(XObject=Dictionary(Shown=shown))
    page.Contents = pdf.make_stream(b"q 200 0 0 200 0 0 cm /Shown Do Q")
    output = io.BytesIO()
    pdf.save(output)
    return output.getvalue()


@pytest.mark.parametrize(
    ("content", "is_cut"),
    [
        (pdf_with_picture(20_000, 20_000), True),
        (pdf_with_picture(20_000, 20_000, in_form=True), True),
        (pdf_with_picture(20_000, 20_000, coding="LZW"), True),
        (pdf_with_picture(20_000, 17_000), False),
        (pdf_with_picture(20_000, 20_000, colours="Gray"), False),
        (pdf_with_picture(40_000, 40_000, colours="Gray"), True),
        (pdf_with_picture(40_000, 40_000, colours="Gray", bits=1), False),
        (pdf_with_picture(20_000, 20_000, coding="DCT"), False),
    ],
    ids=["1.2 GB", "in a form", "LZW", "1.02 GB", "0.4 GB grey", "1.6 GB grey", "0.2 GB of bits", "JPEG"],
)
def test_a_picture_that_decodes_to_more_than_a_gib_is_cut(content: bytes, *, is_cut: bool) -> None:
    with pypdfium2.PdfDocument(content) as pdf, closing(pdf[0]) as page:
        assert has_cut_picture(page) is is_cut
