"""Pictures that PDFium does not draw to their end, in a render child."""

from __future__ import annotations

import ctypes
from typing import Final

import pypdfium2
from pypdfium2 import raw

_MOST_DECODED_BYTES: Final = 2**30
"""PDFium decodes no more of a compressed stream, and the rest of the picture is black."""
_LEAST_PX: Final = _MOST_DECODED_BYTES // 8
"""Smaller pictures never decode to as many bytes: four colours of 16 bits are the most."""
_DEPTH: Final = 5
_JPEGS: Final = frozenset(("DCTDecode", "JPXDecode", "JBIG2Decode", "CCITTFaxDecode"))
"""These have decoders of their own, without this limit."""


def has_cut_picture(page: pypdfium2.PdfPage) -> bool:
    """Whether PDFium draws a part of a picture only."""
    return any(_is_cut(page, picture) for picture in page.get_objects([raw.FPDF_PAGEOBJ_IMAGE], max_depth=_DEPTH))


def _is_cut(page: pypdfium2.PdfPage, picture: pypdfium2.PdfObject) -> bool:
    width, height = ctypes.c_uint(), ctypes.c_uint()
    if not raw.FPDFImageObj_GetImagePixelSize(picture, width, height) or width.value * height.value < _LEAST_PX:
        return False
    if not _JPEGS.isdisjoint(picture.get_filters()):
        return False
    metadata = picture.get_metadata()
    row_bytes = -(-width.value * metadata.bits_per_pixel // 8)
    return bool(row_bytes * height.value > _MOST_DECODED_BYTES)
