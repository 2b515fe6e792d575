"""The PDF that a render child has open. Windows of one document come one after another, and to open a long one again
for each of them costs as much as drawing two pages."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import pypdfium2

_MOST_USES: Final = 32
"""PDFium keeps what it has read, fonts and pictures, for as long as a document is open; this bounds it."""


@dataclass(slots=True)
class _Opened:
    key: tuple[object, ...]
    pdf: pypdfium2.PdfDocument
    uses: int = 0


_kept: list[_Opened] = []
"""One at most."""


def open_cached(path: str, *, with_forms: bool) -> pypdfium2.PdfDocument:
    """The document at `path`, which stays open until another one is asked for. Raises PdfiumError.

    `with_forms`: what was filled into forms is drawn as well.
    """
    status = os.stat(path)  # noqa: PTH116 - a path is a string on its way to a child
    key = (path, status.st_ino, status.st_mtime_ns, status.st_size, with_forms)
    if _kept and (_kept[0].key != key or _kept[0].uses >= _MOST_USES):
        _kept.pop().pdf.close()
    if not _kept:
        pdf = pypdfium2.PdfDocument(path)
        if with_forms:
            with suppress(pypdfium2.PdfiumError):
                pdf.init_forms()
        _kept.append(_Opened(key, pdf))
    _kept[0].uses += 1
    return _kept[0].pdf
