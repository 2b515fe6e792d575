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

from workers.embedding.serving.refusals import Refusal

_FORMATS: Final = {"image/png": "PNG", "image/jpeg": "JPEG", "image/jpg": "JPEG", "image/webp": "WEBP"}
_HEAD: Final = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,", re.IGNORECASE)
_HEAD_CHARS: Final = 100
_PATCH_PX: Final = 28
"""Side of what becomes one vector of a vision model."""


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image as it came, of a known format and a size that is accepted; its pixels have not been looked at."""

    index: int
    encoded: bytes
    format: str
    width_px: int
    height_px: int

    @property
    def patches(self) -> int:
        return -(-self.width_px // _PATCH_PX) * -(-self.height_px // _PATCH_PX)

    def pixels(self) -> NDArray[np.uint8]:
        """(height, width, 3) uint8 RGB; what is transparent lies on white. Blocks. Raises Refusal if damaged."""
        try:
            with Image.open(io.BytesIO(self.encoded), formats=[self.format]) as picture:
                return np.asarray(_on_white(picture))
        except Exception as error:
            raise _broken(self.index, error) from error


def read_image(uri: str, index: int, max_px: int) -> ImageFile:
    """Input number `index`, checked as far as its header goes. Raises Refusal."""
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


def _on_white(picture: Image.Image) -> Image.Image:
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    paper = Image.new("RGB", picture.size, "white")
    layer = picture.convert("RGBA")
    paper.paste(layer, mask=layer)
    return paper


def _broken(index: int, error: Exception) -> Refusal:
    return _refusal(index, f"cannot be read as the image it says it is: {type(error).__name__}", "broken_image")


def _refusal(index: int, problem: str, code: str = "bad_request") -> Refusal:
    return Refusal(f"input {index} {problem}", param="input", code=code)
