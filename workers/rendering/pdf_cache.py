"""Cache of the one PDF that a render child keeps open.

A child renders the windows of a document one after another. Opening a long PDF costs as much as rendering two pages.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import pypdfium2

_MOST_USES: Final = 32
"""PDFium keeps the fonts and images of an open document in memory. Reopening after this many uses limits them."""


@dataclass(slots=True)
class _Opened:
    key: tuple[object, ...]
    pdf: pypdfium2.PdfDocument
    uses: int = 0


_kept: list[_Opened] = []
"""Holds one entry at most."""


def open_cached(path: str) -> pypdfium2.PdfDocument:
    """Returns the document at `path`. Raises PdfiumError.

    The document stays open until a call opens another one. PDFium also renders filled-in form fields.
    """
    status = os.stat(path)  # noqa: PTH116 - a child receives paths as strings
    key = (path, status.st_ino, status.st_mtime_ns, status.st_size)
    if _kept and (_kept[0].key != key or _kept[0].uses >= _MOST_USES):
        _kept.pop().pdf.close()
    if not _kept:
        pdf = pypdfium2.PdfDocument(path)
        with suppress(pypdfium2.PdfiumError):
            pdf.init_forms()
        _kept.append(_Opened(key, pdf))
    _kept[0].uses += 1
    return _kept[0].pdf
