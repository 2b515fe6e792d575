"""Images that callers send: data URIs only. An address is never fetched: it would be fetched from inside."""

from __future__ import annotations

import binascii
import io
import re
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workers.embedding.serving.api_errors import ApiError

_FORMATS: Final = {"image/png": "PNG", "image/jpeg": "JPEG", "image/jpg": "JPEG", "image/webp": "WEBP"}
_HEAD: Final = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,", re.IGNORECASE)
_HEAD_CHARS: Final = 100
_PATCH_PX: Final = 28
"""Side of what becomes one vector of a vision model."""
_STRIP_PX: Final = 2**18
"""Pixels converted to RGB at a time: of the whole image there are two copies at most, as decoded and as RGB."""
_DRAFT_SIDES: Final = 2
"""A JPEG is decoded at an eighth, a quarter or half of its size, if that is so many times what the model wants."""
_MAX_JPEG_SCANS: Final = 100
"""A progressive JPEG has about ten; each goes over all pixels again, and takes ten bytes."""
_START_OF_SCAN: Final = b"\xff\xda"


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image as it came, of a known format and a size that is accepted; its pixels have not been looked at."""

    index: int
    encoded: bytes
    format: str
    width_px: int
    height_px: int

    @property
    def px(self) -> int:
        return self.width_px * self.height_px

    @property
    def patches(self) -> int:
        return -(-self.width_px // _PATCH_PX) * -(-self.height_px // _PATCH_PX)

    def pixels(self, wanted_px: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """(height, width, 3) uint8 RGB; what is transparent lies on white. Blocks. Raises ApiError if damaged.

        `wanted_px`: the width and height that the model wants. A JPEG that is much larger comes at half its size or
        less, and at _DRAFT_SIDES times what is wanted at least.
        """
        try:
            with Image.open(io.BytesIO(self.encoded), formats=[self.format]) as picture:
                if wanted_px is not None:
                    picture.draft(None, (wanted_px[0] * _DRAFT_SIDES, wanted_px[1] * _DRAFT_SIDES))
                return _rgb(picture)
        except Exception as error:
            raise _broken(self.index, error) from error


def read_image(uri: str, index: int, max_px: int) -> ImageFile:
    """Input number `index`, checked as far as its header goes. Raises ApiError."""
    head = _HEAD.match(uri, 0, _HEAD_CHARS)
    if head is None:
        raise _refusal(index, "is not a base64 data URI (data:image/png;base64,...); addresses are not fetched")
    media_type = head[1].lower()
    if media_type not in _FORMATS:
        raise _refusal(index, f"is {media_type}; PNG, JPEG and WebP are accepted", "unsupported_image")
    try:
        encoded = binascii.a2b_base64(uri[head.end() :], strict_mode=True)
    except ValueError as error:
        raise _refusal(index, f"is not valid base64: {error}", "broken_image") from error
    width_px, height_px = _size(encoded, _FORMATS[media_type], index)
    if width_px * height_px > max_px:
        raise _refusal(
            index, f"has {width_px} x {height_px} pixels, more than the {max_px} accepted", "image_too_large"
        )
    if encoded.count(_START_OF_SCAN) > _MAX_JPEG_SCANS and _FORMATS[media_type] == "JPEG":
        raise _refusal(index, f"has more than {_MAX_JPEG_SCANS} scans", "unsupported_image")
    return ImageFile(index, encoded, _FORMATS[media_type], width_px, height_px)


def _size(encoded: bytes, image_format: str, index: int) -> tuple[int, int]:
    """Width and height by the header."""
    try:
        with Image.open(io.BytesIO(encoded), formats=[image_format]) as picture:
            return picture.size
    except Image.DecompressionBombError as error:
        raise _refusal(index, "has more pixels than are accepted", "image_too_large") from error
    except Exception as error:
        raise _broken(index, error) from error


def _rgb(picture: Image.Image) -> NDArray[np.uint8]:
    picture.load()
    width_px, height_px = picture.size
    pixels = np.empty((height_px, width_px, 3), np.uint8)
    rows = max(1, _STRIP_PX // width_px)
    for top in range(0, height_px, rows):
        strip = picture.crop((0, top, width_px, min(top + rows, height_px)))
        pixels[top : top + rows] = np.asarray(_on_white(_in_8_bits(strip)))
    return pixels


def _in_8_bits(picture: Image.Image) -> Image.Image:
    """Grey of sixteen bits would be cut off at 255, and not scaled, by a conversion to RGB."""
    if not picture.mode.startswith("I"):
        return picture
    return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))


def _on_white(picture: Image.Image) -> Image.Image:
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    paper = Image.new("RGB", picture.size, "white")
    layer = picture.convert("RGBA")
    paper.paste(layer, mask=layer)
    return paper


def _broken(index: int, error: Exception) -> ApiError:
    return _refusal(index, f"cannot be read as the image it says it is: {type(error).__name__}", "broken_image")


def _refusal(index: int, problem: str, code: str = "bad_request") -> ApiError:
    return ApiError(f"input {index} {problem}", param="input", code=code)
