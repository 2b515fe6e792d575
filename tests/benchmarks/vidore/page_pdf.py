"""A PDF of page images, without a loss: rendered at PAGE_DPI, a page has exactly the pixels of its image."""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence
from typing import Final

import pikepdf
from PIL import Image, ImageOps

from tests.benchmarks.vidore.dataset import BadDataset, CorpusPage

PAGE_DPI: Final = 72
"""A pixel is a point: whole numbers, so that no renderer rounds the size of a page."""
_ORIENTATION: Final = 0x0112


def pages_pdf(pages: Sequence[CorpusPage]) -> bytes:
    """The same bytes for the same pages. Raises BadDataset for an image that cannot be read."""
    pdf = pikepdf.new()
    for page in pages:
        _add(pdf, page)
    output = io.BytesIO()
    pdf.save(output, deterministic_id=True)
    return output.getvalue()


def pixels_of(page: CorpusPage) -> Image.Image:
    """The upright image, RGB, on white where it is transparent. Raises BadDataset."""
    try:
        with Image.open(io.BytesIO(page.image)) as opened:
            image: Image.Image = ImageOps.exif_transpose(opened)
            if image.has_transparency_data:
                shown = image.convert("RGBA")
                image = Image.new("RGB", shown.size, "white")
                image.paste(shown, mask=shown.getchannel("A"))
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadDataset(f"the image of page {page.id} cannot be read: {error}") from error


def _add(pdf: pikepdf.Pdf, page: CorpusPage) -> None:
    image = pixels_of(page)
    if _can_embed(page.image):
        stream, compression = page.image, pikepdf.Name.DCTDecode
    else:
        stream, compression = zlib.compress(image.tobytes(), 6), pikepdf.Name.FlateDecode
    picture = pdf.make_stream(
        stream,
        Type=pikepdf.Name.XObject,
        Subtype=pikepdf.Name.Image,
        Width=image.width,
        Height=image.height,
        ColorSpace=pikepdf.Name.DeviceRGB,
        BitsPerComponent=8,
        Filter=compression,
    )
    pdf.add_blank_page(page_size=(image.width, image.height))
    added = pdf.pages[-1]
    added.Resources = pikepdf.Dictionary(XObject=pikepdf.Dictionary(Page=picture))
    added.Contents = pdf.make_stream(f"{image.width} 0 0 {image.height} 0 0 cm /Page Do".encode())


def _can_embed(content: bytes) -> bool:
    """True for a JPEG that a PDF shows as Pillow does: three channels, and no turn in its EXIF data."""
    with Image.open(io.BytesIO(content)) as image:
        return image.format == "JPEG" and image.mode == "RGB" and image.getexif().get(_ORIENTATION, 1) == 1
