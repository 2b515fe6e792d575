"""How the picture of a page is encoded.

What a page of text at 200 DPI (3.7 megapixels) costs, in CPU milliseconds and KiB: WebP at quality 85 100 to 130 and
120 to 240; PNG in colour 75 and 290 to 460; JPEG at quality 85 10 and 230 to 430; PNG in grey without a filter, which
loses nothing, 12 to 15 and 150 to 260.
"""

from __future__ import annotations

import io
from typing import Any, Final, Literal, TypeAlias

from PIL import Image, ImageChops

ImageFormat: TypeAlias = Literal["webp", "png", "jpeg"]

_OPTIONS: Final[dict[ImageFormat, dict[str, Any]]] = {
    # On pages of text method 2 takes half the time of Pillow's default, 4, and makes files 3 % larger;
    # methods 0 and 1 take a quarter less again and make them 20 to 40 % larger.
    "webp": {"method": 2},
    "png": {"compress_level": 1},  # higher levels take up to four times as long and save a tenth
    "jpeg": {},
}
_PNG_BITS_PER_PX: Final = 1.0
"""Text takes 0.2 to 0.6. What takes more is a scan or a photograph, of which JPEG makes a fraction."""

_SAMPLED: Final = 8
"""One pixel in so many, each way, is looked at first: a colour is mostly found there, in 0.4 ms in place of 5."""


def to_greyscale(picture: Image.Image) -> Image.Image | None:
    """The picture, RGB or RGBX, in one channel where no pixel has a colour, else None."""
    sample = picture.resize((picture.width // _SAMPLED + 1, picture.height // _SAMPLED + 1), Image.Resampling.NEAREST)
    return None if _one_channel(sample) is None else _one_channel(picture)


def _one_channel(picture: Image.Image) -> Image.Image | None:
    red = picture.getchannel(0)
    for other in (1, 2):
        if ImageChops.difference(red, picture.getchannel(other)).getbbox():
            return None
    return red


def encode_image(
    picture: Image.Image, wanted: ImageFormat | Literal["auto"], quality: int
) -> tuple[bytes, ImageFormat]:
    """An L, RGB or RGBX picture as a file, and the format of it. `quality`, 1 to 100, is that of WebP and JPEG.

    "auto" keeps text without colour as it is, in PNG, and all else in JPEG.
    """
    if wanted != "auto":
        return _save(picture, wanted, quality), wanted
    if picture.mode == "L":
        exact = _save(picture, "png", quality)
        if 8 * len(exact) <= _PNG_BITS_PER_PX * picture.width * picture.height:
            return exact, "png"
    return _save(picture, "jpeg", quality), "jpeg"


def _save(picture: Image.Image, image_format: ImageFormat, quality: int) -> bytes:
    if image_format == "png" and picture.mode == "L":
        picture = picture.convert("P")  # with a palette, Pillow tries no filters, which takes half the time
    elif image_format != "jpeg" and picture.mode == "RGBX":
        picture = picture.convert("RGB")
    file = io.BytesIO()
    picture.save(file, image_format, quality=quality, **_OPTIONS[image_format])
    return file.getvalue()
