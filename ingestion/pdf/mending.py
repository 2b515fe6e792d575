"""Make a copy of a PDF that engines read as it is meant, in a child, with qpdf.

    damaged structure              cross-references are searched for again
    layers that are switched off   their content is removed: engines hide it, and text extraction does not
    an empty crop box              the media box stands in for it
    a user unit                    the page is scaled by it: engines ignore it
    ToUnicode maps to NUL          the entry is removed: the glyph's name says which character it is

A file that needs none of this is not copied. The original stays in the object store as it was uploaded.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import pikepdf
from pikepdf import Array, Dictionary, Pdf

from ingestion.pdf.layers import Layers, remove_hidden
from ingestion.pdf.page_tree import PDF_ERRORS, inherited, leaves, open_pdf
from ingestion.pdf.unicode_maps import mend_unicode_map

_MOST_BYTES: Final = 256 * 1024**2
"""A larger file is not copied: the copy is in memory."""
_LETTER: Final = (0, 0, 612, 792)
"""The media box of a page without one, in PDFium and poppler."""
_LARGEST_UNIT: Final = 1000.0
_END: Final = b"%%EOF"
_TAIL_BYTES: Final = 2048
_Box = tuple[float, float, float, float]


def mended_copy(source: str | bytes, max_pages: int) -> bytes | None:
    """In the child: the copy, or None where the file needs none, or cannot be read.

    At most `max_pages` pages are looked at. An error at one page leaves that page as it is.
    """
    if _is_too_large(source):
        return None
    try:
        with open_pdf(source) as pdf:
            is_changed = _mend(pdf, max_pages)
            return _bytes_of(pdf) if is_changed or pdf.get_warnings() else None
    except PDF_ERRORS:
        return None


def rebuilt_copy(path: str) -> bytes | None:
    """In the child: a copy of a damaged file with new cross-references; None where nothing can be read."""
    if _is_too_large(path):
        return None
    content = Path(path).read_bytes()
    if _END not in content[-_TAIL_BYTES:]:
        content += (
            b"\nendstream\nendobj\n%%EOF\n"  # the file was cut off, maybe in a stream: what is there of it is kept
        )
    try:
        with open_pdf(content) as pdf:
            return _bytes_of(pdf)
    except PDF_ERRORS:
        return None


def _is_too_large(source: str | bytes) -> bool:
    return (len(source) if isinstance(source, bytes) else os.stat(source).st_size) > _MOST_BYTES  # noqa: PTH116


def _bytes_of(pdf: Pdf) -> bytes:
    output = io.BytesIO()
    pdf.save(output, object_stream_mode=pikepdf.ObjectStreamMode.disable, encryption=False)
    return output.getvalue()


def _mend(pdf: Pdf, max_pages: int) -> bool:
    """Whether anything was changed. Loads each page, its fonts and its contents, so that qpdf notices damage."""
    layers = Layers.of(pdf.Root)
    is_changed = False
    fonts: set[tuple[int, int]] = set()
    seen: set[tuple[int, int]] = set()
    for page in leaves(pdf, max_pages):
        if page is None or page.objgen in seen:
            continue
        seen.add(page.objgen)
        with suppress(*PDF_ERRORS):
            _load_contents(page)
            is_changed |= _mend_crop(page)
            is_changed |= _mend_unit(pdf, page)
            for font in _new_fonts(page, fonts):
                with suppress(*PDF_ERRORS):
                    is_changed |= mend_unicode_map(pdf, font)
            if layers.are_hidden:
                is_changed |= remove_hidden(pdf, page, layers)
    return is_changed


def _load_contents(page: Dictionary) -> None:
    contents = page.get("/Contents")
    if isinstance(contents, Array):
        for index in range(len(contents)):
            contents[index].is_rectangle  # noqa: B018 - loads the object


def _box(value: pikepdf.Object | None) -> _Box | None:
    """None where there is none, or it has no area."""
    if not isinstance(value, Array) or len(value) != 4:
        return None
    x0, y0, x1, y1 = (float(one) for one in value)
    box = min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)
    return box if box[2] > box[0] and box[3] > box[1] else None


def _mend_crop(page: Dictionary) -> bool:
    if (crop_value := inherited(page, "/CropBox")) is None:
        return False
    media = _box(inherited(page, "/MediaBox")) or _LETTER
    crop = _box(crop_value)
    if crop is None or crop[0] >= media[2] or crop[2] <= media[0] or crop[1] >= media[3] or crop[3] <= media[1]:
        page["/CropBox"] = Array(media)
        return True
    return False


def _mend_unit(pdf: Pdf, page: Dictionary) -> bool:
    """Scale the page by its user unit, once: boxes, contents and the places of annotations."""
    unit = float(page.get("/UserUnit", 1))
    if unit == 1 or not 0 < unit <= _LARGEST_UNIT:
        return False
    del page["/UserUnit"]
    for key in ("/MediaBox", "/CropBox"):
        if (box := _box(inherited(page, key))) is not None:
            page[key] = Array([value * unit for value in box])
    before = pdf.make_stream(f"q {unit:f} 0 0 {unit:f} 0 0 cm\n".encode())
    after = pdf.make_stream(b"\nQ")
    contents = page.get("/Contents")
    parts = list(contents) if isinstance(contents, Array) else [] if contents is None else [contents]
    page["/Contents"] = Array([before, *parts, after])
    annotations = page.get("/Annots")
    for annotation in annotations if isinstance(annotations, Array) else ():
        if isinstance(annotation, Dictionary) and (place := _box(annotation.get("/Rect"))) is not None:
            annotation["/Rect"] = Array([value * unit for value in place])
    return True


def _new_fonts(page: Dictionary, seen: set[tuple[int, int]]) -> Iterator[Dictionary]:
    """The fonts of a page that no earlier page had."""
    resources = inherited(page, "/Resources")
    if not isinstance(resources, Dictionary):
        return
    fonts = resources.get("/Font")
    if not isinstance(fonts, Dictionary):
        return
    for font in fonts.values():
        if isinstance(font, Dictionary) and (font.objgen == (0, 0) or font.objgen not in seen):
            seen.add(font.objgen)
            yield font
