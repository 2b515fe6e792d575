"""Code of a conversion child: makes a PDF from a picture. The input is hostile."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Final

# A child cannot import modules later: Pillow would import its plugins when a picture is opened.
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageOps,
    ImageSequence,
    JpegImagePlugin,
    MpoImagePlugin,
    PdfImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from ingestion.errors import ConversionFailed, TooManyPages

_PLUGINS: Final = (
    BmpImagePlugin, GifImagePlugin, JpegImagePlugin, MpoImagePlugin, PdfImagePlugin, PngImagePlugin, TiffImagePlugin,
    WebPImagePlugin,
)  # fmt: skip
_FORMATS: Final[tuple[str, ...]] = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "TIFF", "HEIF")
_DEFAULT_DPI: Final = 200
"""The DPI of most pages, so that rendering gives the pixels of the picture. A small picture is a small page."""
_SCAN_DPI: Final = (150, 1200)
"""Declared DPI in this range are taken. Cameras and screens declare 72 or 96, which would make pages of metres."""
_QUALITY: Final = 90

with suppress(ImportError):
    import_module("pillow_heif").register_heif_opener()


@dataclass(frozen=True, slots=True)
class PictureLimits:
    """`page_px`: a larger page is scaled down to it. `picture_px`: a larger page is refused."""

    pages: int
    page_px: int
    picture_px: int


def picture_to_pdf(path: str, limits: PictureLimits) -> bytes:
    """In the child: the PDF. An animated picture becomes one page, of its first frame.

    Raises ConversionFailed, TooManyPages.
    """
    Image.MAX_IMAGE_PIXELS = None  # `_checked` has the limit of the settings
    known = [name for name in _FORMATS if name in Image.OPEN]
    try:
        with Image.open(path, formats=known) as picture:
            return _pdf_of(picture, limits)
    except UnidentifiedImageError as error:
        raise ConversionFailed("the picture is damaged: no reader knows it") from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, ArithmeticError) as error:
        raise ConversionFailed(f"the picture is damaged: {error}") from error


def _pdf_of(picture: Image.Image, limits: PictureLimits) -> bytes:
    # Each page is a PDF of its own that Pillow appends, so that one decoded page is in memory at a time.
    output = io.BytesIO()
    for number, frame in enumerate(_frames(picture), start=1):
        if number > limits.pages:
            raise TooManyPages(f"the picture has more pages than the {limits.pages} that are accepted")
        page = _page(_checked(frame, number, limits), limits)
        # A page of one bit a pixel, such as a fax, is compressed without loss.
        quality = {} if page.mode == "1" else {"quality": _QUALITY}
        page.save(output, "PDF", resolution=_dpi(frame, page), append=number > 1, **quality)
        output.seek(0)
    return output.getvalue()


def _frames(picture: Image.Image) -> Iterator[Image.Image]:
    if picture.format == "TIFF":
        yield from ImageSequence.Iterator(picture)
    else:
        yield picture


def _checked(frame: Image.Image, number: int, limits: PictureLimits) -> Image.Image:
    if frame.width * frame.height > limits.picture_px:
        raise ConversionFailed(
            f"page {number} of the picture has {frame.width} x {frame.height} px; "
            f"PAGEMILL_MAX_PICTURE_PX allows {limits.picture_px}"
        )
    return frame


def _page(frame: Image.Image, limits: PictureLimits) -> Image.Image:
    """The upright picture in a mode that a PDF holds, on white where it is transparent."""
    excess = (frame.width * frame.height / limits.page_px) ** 0.5
    if excess > 1:
        small = (max(1, int(frame.width / excess)), max(1, int(frame.height / excess)))
        frame.draft("RGB", small)  # JPEG: decode at a lower resolution
        frame.thumbnail(small)
    frame = ImageOps.exif_transpose(frame)
    if frame.mode.startswith("I") or frame.mode == "F":
        low, high = (float(one) for one in frame.getextrema())  # type: ignore[arg-type]
        scale = 255 / (high - low) if high > low else 1.0
        return frame.convert("F").point(lambda value: value * scale - low * scale).convert("L")
    if frame.has_transparency_data:
        shown = frame.convert("RGBA")
        page = Image.new("RGB", shown.size, "white")
        page.paste(shown, mask=shown.getchannel("A"))
        return page
    return frame if frame.mode in ("1", "L", "RGB") else frame.convert("RGB")


def _dpi(frame: Image.Image, page: Image.Image) -> float:
    declared = frame.info.get("dpi")
    try:
        dpi = float(declared[0]) if declared else 0.0
    except (TypeError, ValueError, IndexError, ZeroDivisionError):
        dpi = 0.0
    lowest, highest = _SCAN_DPI
    if not lowest <= dpi <= highest:
        return _DEFAULT_DPI
    return dpi * max(page.size) / max(frame.size)
