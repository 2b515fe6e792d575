"""Code of an image child: makes a smaller image of a page.

The stored image comes from a process that has read a hostile file, so it is decoded in a child too.
"""

from __future__ import annotations

import io
from typing import Final

from PIL import Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

_PLUGINS: Final = (JpegImagePlugin, PngImagePlugin, WebPImagePlugin)
_FORMATS: Final = ("PNG", "JPEG", "WEBP")
_MOST_PX: Final = 100_000_000
"""The renderer's own limit is a setting, PAGEMILL_MAX_PAGE_PX. The memory of the child is limited as well."""
_QUALITY: Final = 80
_METHOD: Final = 2
"""Effort of the WebP encoder, 0 to 6: 4 takes twice as long for 3% fewer bytes."""


def smaller_image(image: bytes, width_px: int) -> bytes:
    """In the child: a WebP image of `width_px`, or `b""` where the image is not wider than that."""
    Image.MAX_IMAGE_PIXELS = _MOST_PX // 2  # Pillow raises at twice this number
    with Image.open(io.BytesIO(image), formats=_FORMATS) as picture:
        if picture.width <= width_px:
            return b""
        height_px = max(1, round(picture.height * width_px / picture.width))
        picture.draft(None, (width_px, height_px))  # a JPEG is decoded at a fraction of its size
        if picture.mode not in ("L", "RGB"):
            picture = picture.convert("RGB")  # type: ignore[assignment]  # noqa: PLW2901
        smaller = picture.resize((width_px, height_px), Image.Resampling.LANCZOS, reducing_gap=2.0)
    written = io.BytesIO()
    smaller.save(written, "WEBP", quality=_QUALITY, method=_METHOD)
    return written.getvalue()
