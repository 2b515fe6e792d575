"""The page tree of a PDF, read with qpdf and without changing it: qpdf's own list drops pages that are missing."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Final

import pikepdf
from pikepdf import Array, Dictionary, Pdf

_DEEPEST: Final = 50

PDF_ERRORS: Final = (
    pikepdf.PdfError, pikepdf.PasswordError, ValueError, TypeError, KeyError, AttributeError, IndexError, RuntimeError,
    OSError,
)  # fmt: skip
"""What pikepdf raises for files that it cannot read, and for objects of other types than expected."""


def open_pdf(source: str | bytes) -> Pdf:
    """Raises PDF_ERRORS."""
    return pikepdf.open(source if isinstance(source, str) else io.BytesIO(source), suppress_warnings=True)


def leaves(pdf: Pdf, most: int) -> Iterator[Dictionary | None]:
    """The first `most` pages in order; None for a place in the tree without a page. A page may come twice."""
    waiting: list[tuple[pikepdf.Object | None, int]] = [(pdf.Root.get("/Pages"), 0)]
    found = 0
    visits_left = 4 * most + 1000
    while waiting and found < most and visits_left:
        visits_left -= 1
        node, depth = waiting.pop()
        kids = node.get("/Kids") if isinstance(node, Dictionary) else None
        if isinstance(kids, Array) and depth < _DEEPEST:
            waiting += [(kids[index], depth + 1) for index in range(min(len(kids), most))][::-1]
        else:
            found += 1
            yield node if isinstance(node, Dictionary) and kids is None else None


def count_leaves(source: str | bytes, most: int) -> int:
    """The number of places in the page tree, at most `most`; 0 where it cannot be read."""
    try:
        with open_pdf(source) as pdf:
            return sum(1 for _ in leaves(pdf, most))
    except PDF_ERRORS:
        return 0


def inherited(page: Dictionary, key: str) -> pikepdf.Object | None:
    """The value of a page's attribute, which an ancestor may have."""
    node: pikepdf.Object | None = page
    for _ in range(_DEEPEST):
        if not isinstance(node, Dictionary):
            return None
        if (value := node.get(key)) is not None:
            return value
        node = node.get("/Parent")
    return None
