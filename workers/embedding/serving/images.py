"""Read images from data URIs. URLs are refused: the service would fetch them from inside its network (SSRF)."""

from __future__ import annotations

import binascii
import io
import re
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workers.embedding.serving.service_errors import ServiceError

_FORMATS: Final = {"image/png": "PNG", "image/jpeg": "JPEG", "image/jpg": "JPEG", "image/webp": "WEBP"}
_HEAD: Final = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,", re.IGNORECASE)
_HEAD_CHARS: Final = 100
_PATCH_PX: Final = 28
"""Side of the square that becomes one image token of ColQwen2: 2 x 2 patches of 14 pixels."""
_STRIP_PX: Final = 2**18
"""Pixels converted to RGB at a time, so that memory holds at most two whole copies: as decoded and as RGB."""
_DRAFT_SIDES: Final = 2
"""A JPEG is decoded at 1/8, 1/4 or 1/2 of its size if the result still has so many times the wanted sides."""
_MAX_JPEG_SCANS: Final = 100
"""A progressive JPEG has about 10. Each scan costs ten bytes of the file and one pass over all pixels."""
_START_OF_SCAN: Final = b"\xff\xda"


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An encoded image of an accepted format and size. Its pixels are not decoded yet."""

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
        """Decode to (height, width, 3) uint8 RGB on white. Blocks. Raises ServiceError for a damaged image.

        `wanted_px`: width and height that the model needs. A much larger JPEG is decoded at a reduced size, at least
        _DRAFT_SIDES times as wide and high.
        """
        try:
            with Image.open(io.BytesIO(self.encoded), formats=[self.format]) as image:
                if wanted_px is not None:
                    image.draft(None, (wanted_px[0] * _DRAFT_SIDES, wanted_px[1] * _DRAFT_SIDES))
                return _rgb(image)
        except Exception as error:
            raise _broken(self.index, error) from error


def read_image(uri: str, index: int, max_px: int) -> ImageFile:
    """Read input number `index` and check its header. Raises ServiceError."""
    head = _HEAD.match(uri, 0, _HEAD_CHARS)
    if head is None:
        raise _input_error(index, "is not a base64 data URI (data:image/png;base64,...); addresses are not fetched")
    media_type = head[1].lower()
    if media_type not in _FORMATS:
        raise _input_error(index, f"is {media_type}; PNG, JPEG and WebP are accepted", "unsupported_image")
    try:
        encoded = binascii.a2b_base64(uri[head.end() :], strict_mode=True)
    except ValueError as error:
        raise _input_error(index, f"is not valid base64: {error}", "broken_image") from error
    width_px, height_px = _size(encoded, _FORMATS[media_type], index)
    if width_px * height_px > max_px:
        raise _input_error(
            index, f"has {width_px} x {height_px} pixels, more than the {max_px} accepted", "image_too_large"
        )
    if encoded.count(_START_OF_SCAN) > _MAX_JPEG_SCANS and _FORMATS[media_type] == "JPEG":
        raise _input_error(index, f"has more than {_MAX_JPEG_SCANS} scans", "unsupported_image")
    return ImageFile(index, encoded, _FORMATS[media_type], width_px, height_px)


def _size(encoded: bytes, image_format: str, index: int) -> tuple[int, int]:
    """Width and height in the header."""
    try:
        with Image.open(io.BytesIO(encoded), formats=[image_format]) as image:
            return image.size
    except Image.DecompressionBombError as error:
        raise _input_error(index, "has more pixels than are accepted", "image_too_large") from error
    except Exception as error:
        raise _broken(index, error) from error


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    image.load()
    width_px, height_px = image.size
    pixels = np.empty((height_px, width_px, 3), np.uint8)
    rows = max(1, _STRIP_PX // width_px)
    for top in range(0, height_px, rows):
        strip = image.crop((0, top, width_px, min(top + rows, height_px)))
        pixels[top : top + rows] = np.asarray(_on_white(_in_8_bits(strip)))
    return pixels


def _in_8_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey to 8 bits: Pillow's conversion to RGB would clip it at 255."""
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    paper = Image.new("RGB", image.size, "white")
    layer = image.convert("RGBA")
    paper.paste(layer, mask=layer)
    return paper


def _broken(index: int, error: Exception) -> ServiceError:
    return _input_error(index, f"cannot be decoded in its declared format: {type(error).__name__}", "broken_image")


def _input_error(index: int, problem: str, code: str = "bad_request") -> ServiceError:
    return ServiceError(f"input {index} {problem}", param="input", code=code)
