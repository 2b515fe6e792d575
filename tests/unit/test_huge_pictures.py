"""Pictures of which PDFium draws a part only."""

from __future__ import annotations

import io
import zlib
from contextlib import closing

import pikepdf
import pypdfium2
import pytest
from pikepdf import Dictionary, Name

from workers.rendering import huge_pictures
from workers.rendering.huge_pictures import has_cut_picture

SIDE_PX = 600
LIMIT_BYTES = 2**20


def pdf_with_picture(
    bytes_per_px: float, *, side_px: int = SIDE_PX, jpeg: bool = False, in_form: bool = False
) -> bytes:
    """Of CMYK with 16 bits, where all of its data are there."""
    pdf = pikepdf.new()
    data = zlib.compress(bytes(int(side_px**2 * bytes_per_px)))
    shown = pdf.make_stream(
        data,
        Type=Name.XObject,
        Subtype=Name.Image,
        Width=side_px,
        Height=side_px,
        BitsPerComponent=16,
        ColorSpace=Name.DeviceCMYK,
        Filter=Name.DCTDecode if jpeg else Name.FlateDecode,
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
        (pdf_with_picture(8), True),
        (pdf_with_picture(8, side_px=500, in_form=True), True),
        (pdf_with_picture(2), False),
        (pdf_with_picture(8, side_px=300), False),
        (pdf_with_picture(8, jpeg=True), False),
    ],
    ids=["larger", "in a form", "smaller", "few pixels", "JPEG"],
)
def test_a_picture_that_decodes_to_more_than_the_limit_is_cut(
    monkeypatch: pytest.MonkeyPatch, content: bytes, *, is_cut: bool
) -> None:
    monkeypatch.setattr(huge_pictures, "_MOST_DECODED_BYTES", LIMIT_BYTES)
    monkeypatch.setattr(huge_pictures, "_LEAST_PX", LIMIT_BYTES // 8)
    with pypdfium2.PdfDocument(content) as pdf, closing(pdf[0]) as page:
        assert has_cut_picture(page) is is_cut
        assert page.render().to_numpy().size, "the page is still whole"
