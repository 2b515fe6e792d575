"""Encoding of page images.

Cost of one page of text at 200 DPI (3.7 megapixels):

    format                   CPU          size
    WebP, quality 85         100-130 ms   120-240 KiB
    PNG, RGB                 75 ms        290-460 KiB
    JPEG, quality 85         10 ms        230-430 KiB
    PNG, grey, no filter     12-15 ms     150-260 KiB, lossless
"""

from __future__ import annotations

import io
from typing import Any, Final, Literal, TypeAlias

from PIL import Image, ImageChops

ImageFormat: TypeAlias = Literal["webp", "png", "jpeg"]

_OPTIONS: Final[dict[ImageFormat, dict[str, Any]]] = {
    # For pages of text, method 2 takes half the time of Pillow's default (4), and files are 3 % larger.
    # Methods 0 and 1 save another quarter of the time, but files are 20 to 40 % larger.
    "webp": {"method": 2},
    "png": {"compress_level": 1},  # higher levels take up to 4 times as long and save 10 %
    "jpeg": {},
}
_PNG_BITS_PER_PX: Final = 1.0
"""Text takes 0.2 to 0.6. A larger PNG is a scan or a photograph, and JPEG is far smaller."""

_SAMPLE_STEP: Final = 8
"""Every 8th pixel of every 8th row is tested first. That usually finds a colour, in 0.4 ms instead of 5 ms."""


def to_greyscale(image: Image.Image) -> Image.Image | None:
    """Returns an RGB or RGBX image as one grey channel, or None if a pixel has a colour."""
    sample = image.resize(
        (image.width // _SAMPLE_STEP + 1, image.height // _SAMPLE_STEP + 1), Image.Resampling.NEAREST
    )
    return None if _one_channel(sample) is None else _one_channel(image)


def _one_channel(image: Image.Image) -> Image.Image | None:
    red = image.getchannel(0)
    for other in (1, 2):
        if ImageChops.difference(red, image.getchannel(other)).getbbox():
            return None
    return red


def encode_image(image: Image.Image, wanted: ImageFormat | Literal["auto"], quality: int) -> tuple[bytes, ImageFormat]:
    """Encodes an L, RGB or RGBX image. Returns the file and its format.

    `quality` (1 to 100) applies to WebP and JPEG. "auto" chooses lossless PNG for grey text and JPEG for other pages.
    """
    if wanted != "auto":
        return _save(image, wanted, quality), wanted
    if image.mode == "L":
        lossless = _save(image, "png", quality)
        if 8 * len(lossless) <= _PNG_BITS_PER_PX * image.width * image.height:
            return lossless, "png"
    return _save(image, "jpeg", quality), "jpeg"


def _save(image: Image.Image, image_format: ImageFormat, quality: int) -> bytes:
    if image_format == "png" and image.mode == "L":
        image = image.convert("P")  # with a palette Pillow tries no filters: half the time
    elif image_format != "jpeg" and image.mode == "RGBX":
        image = image.convert("RGB")
    file = io.BytesIO()
    image.save(file, image_format, quality=quality, **_OPTIONS[image_format])
    return file.getvalue()
