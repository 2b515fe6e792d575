"""Pictures that PDFium does not draw to their end, in a render child."""

from __future__ import annotations

import ctypes
import zlib
from contextlib import suppress
from typing import Final

import pypdfium2
from pypdfium2 import raw

_MOST_DECODED_BYTES: Final = 2**30
"""PDFium decodes no more of a compressed stream, and the rest of the picture is black."""
_LEAST_PX: Final = _MOST_DECODED_BYTES // 8
"""Smaller pictures never decode to as many bytes: four colours of 16 bits are the most."""
_DEPTH: Final = 5
_READ_AT_ONCE_BYTES: Final = 2**16
"""At most 64 MiB when decoded."""


def has_cut_picture(page: pypdfium2.PdfPage) -> bool:
    """Whether PDFium draws a part of a picture only."""
    return any(_is_cut(picture) for picture in page.get_objects([raw.FPDF_PAGEOBJ_IMAGE], max_depth=_DEPTH))


def _is_cut(picture: pypdfium2.PdfImage) -> bool:
    """PDFium does not say how many bits a picture has in the file: 24 for each pixel of CMYK with 8 or 16 bits."""
    width, height = ctypes.c_uint(), ctypes.c_uint()
    if not raw.FPDFImageObj_GetImagePixelSize(picture, width, height) or width.value * height.value < _LEAST_PX:
        return False
    return picture.get_filters() == ["FlateDecode"] and _decodes_to_more(picture.get_data())


def _decodes_to_more(compressed: ctypes.Array[ctypes.c_ubyte]) -> bool:
    """Counts the bytes without keeping them."""
    decoder, count, view = zlib.decompressobj(), 0, memoryview(compressed).cast("B")
    with suppress(zlib.error):  # what comes before the damage counts
        for start in range(0, len(view), _READ_AT_ONCE_BYTES):
            count += len(decoder.decompress(view[start : start + _READ_AT_ONCE_BYTES]))
            if count > _MOST_DECODED_BYTES:
                return True
    return False
