"""Small valid and hostile PDFs for tests, written byte by byte so that each defect is exact."""

from __future__ import annotations

import random
import textwrap
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fpdf import FPDF

A4_PT: Final = (595.0, 842.0)

_FONT: Final = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"
_STRANGE_CMAP: Final = b"""/CIDInit /ProcSet findresource begin begincmap /CMapType 2 def
1 begincodespacerange <00> <ff> endcodespacerange
5 beginbfchar <41> <0061> <42> <0000> <43> <d800> <44> <fffe> <45> <0062> endbfchar
endcmap end"""
_CATALOG, _TREE, _FONT_REF, _STRANGE_REF, _CMAP_REF = 1, 2, 3, 4, 5


@dataclass(frozen=True)
class RawPage:
    """A page of `size_pt` points. `entries` go into its dictionary unchanged; `content` is its content stream."""

    content: bytes = b""
    size_pt: tuple[float, float] = A4_PT
    entries: str = ""
    is_missing: bool = False
    """The page tree refers to an object that is missing from the file."""


def text_page(text: str, *, size_pt: tuple[float, float] = A4_PT, entries: str = "") -> RawPage:
    """`text` (Latin-1) in 11 point Helvetica, wrapped."""
    lines = [line for paragraph in text.splitlines() for line in textwrap.wrap(paragraph, 90)]
    shown = "".join(f"({_escape(line)}) '\n" for line in lines)
    program = f"BT /F1 11 Tf 14 TL 50 {size_pt[1] - 60:g} Td {shown} ET"
    return RawPage(program.encode("cp1252"), size_pt, entries)


def make_pdf(pages: Sequence[RawPage]) -> bytes:
    """A PDF 1.7 file with a correct cross-reference table."""
    refs = range(_CMAP_REF + 1, _CMAP_REF + 1 + 2 * len(pages), 2)
    kids = " ".join(f"{ref} 0 R" for ref in refs)
    objects = {
        _CATALOG: f"<< /Type /Catalog /Pages {_TREE} 0 R >>".encode(),
        _TREE: f"<< /Type /Pages /Count {len(pages)} /Kids [{kids}] >>".encode(),
        _FONT_REF: _FONT,
        _STRANGE_REF: _FONT.replace(b">>", b"/ToUnicode %d 0 R >>" % _CMAP_REF),
        _CMAP_REF: _stream(_STRANGE_CMAP),
    }
    for ref, page in zip(refs, pages, strict=True):
        if not page.is_missing:
            objects[ref] = _page_dictionary(page, contents=ref + 1)
            objects[ref + 1] = _stream(page.content)
    return _write(objects)


def text_pdf(*texts: str) -> bytes:
    """One A4 page per text."""
    return make_pdf([text_page(text) for text in texts])


def numbered_pdf(pages: int) -> bytes:
    """Pages with the texts "This is page 1.", "This is page 2.", and so on."""
    return text_pdf(*(f"This is page {number}." for number in range(1, pages + 1)))


def broken_page_pdf(pages: int, broken: int) -> bytes:
    """Like `numbered_pdf`, but page `broken` (from 1) is missing from the file."""
    texts = [text_page(f"This is page {number}.") for number in range(1, pages + 1)]
    texts[broken - 1] = RawPage(is_missing=True)
    return make_pdf(texts)


def truncated_pdf() -> bytes:
    """A file of three pages, cut in half."""
    whole = numbered_pdf(3)
    return whole[: len(whole) // 2]


def picture_pdf() -> bytes:
    """One A4 page of drawings, without a text layer."""
    return make_pdf([RawPage(b"0.2 0.4 0.8 rg 100 100 300 500 re f 1 0 0 RG 20 w 50 50 m 500 800 l S")])


def coloured_page() -> RawPage:
    return RawPage(b"0.2 0.4 0.8 rg 100 100 300 500 re f")


def noise_page() -> RawPage:
    """An A4 page covered by a grey image of noise, which does not compress, like a scan."""
    samples = random.Random(1).randbytes(595 * 842).hex().encode()
    return RawPage(b"595 0 0 842 0 0 cm BI /W 595 /H 842 /CS /G /BPC 8 /F /AHx ID " + samples + b"> EI")


def slow_page() -> RawPage:
    """A page with a million half-transparent rectangles: minutes of rendering from a few compressed kilobytes."""
    return RawPage(b"/Half gs\n" + b"0.9 0.1 0.1 rg 0 0 595 842 re f 0.1 0.9 0.1 rg 5 5 500 800 re f\n" * 1_000_000)


def strange_characters_page() -> RawPage:
    """A page whose text layer reads: "a", NUL, a lone surrogate, U+FFFE, "b"."""
    return RawPage(b"BT /Strange 20 Tf 50 700 Td (ABCDE) Tj ET")


def form_cycle_pdf(pages: int = 1) -> bytes:
    """The last page draws a form that draws itself twice: PDFium recurses until it runs out of memory."""
    blank = [b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]>>"] * (pages - 1)
    first, last = 5, 4 + pages
    bodies = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[%s]/Count %d>>" % (b" ".join(b"%d 0 R" % n for n in range(first, last + 1)), pages),
        _stream(b"/A Do"),
        b"<</Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</XObject<</A 4 0 R>>>>/Length 11>>\n"
        b"stream\n/A Do /A Do\nendstream",
        *blank,
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Resources<</XObject<</A 4 0 R>>>>/Contents 3 0 R>>",
    ]
    return _write(dict(enumerate(bodies, start=1)))


def encrypted_pdf(text: str, user_password: str = "secret") -> bytes:
    """RC4-encrypted. With an empty `user_password` any reader opens it."""
    pdf = FPDF(format="A4")
    pdf.set_encryption(owner_password="owner", user_password=user_password)
    pdf.add_page()
    pdf.set_font("Helvetica", size=12)
    pdf.multi_cell(0, 6, text)
    return bytes(pdf.output())


def _page_dictionary(page: RawPage, contents: int) -> bytes:
    width, height = page.size_pt
    return (
        f"<< /Type /Page /Parent {_TREE} 0 R /MediaBox [0 0 {width:f} {height:f}] {page.entries} "
        f"/Resources << /Font << /F1 {_FONT_REF} 0 R /Strange {_STRANGE_REF} 0 R >> "
        f"/ExtGState << /Half << /ca 0.5 >> >> >> "
        f"/Contents {contents} 0 R >>"
    ).encode()


def _stream(data: bytes) -> bytes:
    packed = zlib.compress(data)
    return b"<< /Length %d /Filter /FlateDecode >> stream\n%s\nendstream" % (len(packed), packed)


def _write(objects: dict[int, bytes]) -> bytes:
    out = bytearray(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
    offsets: dict[int, int] = {}
    for number, body in objects.items():
        offsets[number] = len(out)
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    size = max(objects) + 1
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % size
    for number in range(1, size):
        out += b"%010d 00000 n \n" % offsets[number] if number in offsets else b"0000000000 00000 f \n"
    out += b"trailer\n<< /Size %d /Root %d 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (size, _CATALOG, start)
    return bytes(out)


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
