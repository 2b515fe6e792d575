"""The page tree of a PDF, read with qpdf. qpdf leaves out pages that are missing."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pikepdf
from pikepdf import Array, Dictionary, Pdf

_DEEPEST: Final = 50
_KIDS: Final = re.compile(rb"/Kids\s*\[([^\]]*)\]")
_REFERENCE: Final = re.compile(rb"\d+\s+\d+\s+R\b")
_NODE: Final = re.compile(rb"/Type\s*/Pages\b")

PDF_ERRORS: Final = (
    pikepdf.PdfError, pikepdf.PasswordError, ValueError, TypeError, KeyError, AttributeError, IndexError, RuntimeError,
    OSError,
)  # fmt: skip
"""What pikepdf raises for files that it cannot read, and for objects of other types than expected."""


def open_pdf(source: str | bytes) -> Pdf:
    """Raises PDF_ERRORS."""
    return pikepdf.open(source if isinstance(source, str) else io.BytesIO(source), suppress_warnings=True)


def leaves(pdf: Pdf, most: int) -> Iterator[Dictionary | None]:
    """The first `most` pages in order; None for what is no page. A page may come twice."""
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


def count_places(source: str | bytes) -> int:
    """The number of places for pages in the page tree, missing pages included. 0 where the tree is compressed."""
    content = source if isinstance(source, bytes) else Path(source).read_bytes()
    kids = sum(len(_REFERENCE.findall(found)) for found in _KIDS.findall(content))
    return max(kids - max(len(_NODE.findall(content)) - 1, 0), 0)


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
