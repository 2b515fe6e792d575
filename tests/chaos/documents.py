"""The documents of chaos runs: small, with unique words per page, so that their rows and objects are known."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from typing import Final

from tests.support.pdfs import RawPage, make_pdf, slow_page, text_page

_SIZE_PT: Final = (400.0, 120.0)
_HUGE_PT: Final = 60_000.0
_BOMB_BYTES: Final = 512 * 1024**2
FLAKY: Final = "flaky"
HANGS: Final = "hangs"
DROPS: Final = "drops"


@dataclass(frozen=True, slots=True)
class Source:
    """A file to submit. `texts`: one per page. `poison`: a dead letter is expected."""

    filename: str
    content: bytes
    texts: tuple[str, ...]
    is_poison: bool = False

    def patches(self, page_number: int) -> int:
        """Number of vectors of page `page_number` (from 1): one per word."""
        return len(re.findall(r"\w+", self.texts[page_number - 1]))


def good(name: str, pages: int) -> Source:
    """A document whose pages read "{name} page 1 a", "{name} page 2 a b", …, with more words from page to page."""
    texts = _texts(name, pages)
    return Source(f"{name}.pdf", make_pdf([text_page(text, size_pt=_SIZE_PT) for text in texts]), texts)


def several(count: int, pages: int, prefix: str = "doc") -> list[Source]:
    """`count` different documents of `pages` pages each."""
    return [good(f"{prefix}{number}", pages) for number in range(count)]


def flaky(name: str) -> Source:
    """A document on whose first page the first requests to the embedder fail."""
    return good(f"{FLAKY} {name}", pages=2)


def poisoned(name: str, kind: str, pages: int) -> Source:
    """A document on whose last page the embedder always fails as `kind` says: HANGS or DROPS."""
    document = good(name, pages)
    texts = (*document.texts[:-1], f"{kind} {name}")
    return Source(
        f"{name}.pdf", make_pdf([text_page(text, size_pt=_SIZE_PT) for text in texts]), texts, is_poison=True
    )


def gigapixel(name: str) -> Source:
    """A document whose page has more than 10^9 pixels at 40 DPI."""
    (text,) = _texts(name, 1)
    return Source(f"{name}.pdf", make_pdf([text_page(text, size_pt=(_HUGE_PT, _HUGE_PT))]), (text,))


def heavy(name: str, size_bytes: int) -> Source:
    """A document of one page and at least `size_bytes` incompressible bytes."""
    (text,) = _texts(name, 1)
    page = text_page(text, size_pt=_SIZE_PT)
    ballast = b"\n% " + os.urandom(size_bytes).hex().encode()  # a comment in hexadecimal
    return Source(f"{name}.pdf", make_pdf([replace(page, content=page.content + ballast)]), (text,))


def broken(name: str) -> Source:
    """A document whose second page has no size that can be drawn."""
    return _poison(name, RawPage(size_pt=(1e39, 1e39)))


def endless(name: str) -> Source:
    """A document whose second page takes longer to render than the limit, with little memory."""
    slow = slow_page()
    return _poison(name, replace(slow, content=slow.content[: len(slow.content) // 8]))


def bomb(name: str) -> Source:
    """A document whose second page has a content stream of half a gigabyte of blanks. Takes 1 to 2 s to make."""
    return _poison(name, RawPage(b" " * _BOMB_BYTES))


def deadly(name: str) -> Source:
    """A valid document. Its scenario kills every worker that reads it."""
    return replace(good(name, pages=2), is_poison=True)


def _poison(name: str, second: RawPage) -> Source:
    texts = _texts(name, 3)
    first, _, third = (text_page(text, size_pt=_SIZE_PT) for text in texts)
    return Source(f"{name}.pdf", make_pdf([first, second, third]), texts, is_poison=True)


def _texts(name: str, pages: int) -> tuple[str, ...]:
    return tuple(" ".join([name, "page", str(number), *"abcdefg"[: number % 8]]) for number in range(1, pages + 1))
