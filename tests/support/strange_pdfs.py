"""PDFs that people upload and engines misread, written object by object: see `tests.contract.test_strange_pdfs`."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import pikepdf

FONT = "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"


@dataclass(frozen=True)
class Strange:
    """A PDF of pages with one content stream each. `catalog` and `page` go into the dictionaries as they are.

    Objects: 1 catalog, 2 page tree, 3 font, from 10 on a page and its contents in turns. `more` are others, by number.
    """

    contents: Sequence[bytes] = (b"",)
    catalog: str = ""
    page: str = ""
    resources: str = ""
    font: str = FONT
    more: dict[int, str | bytes] = field(default_factory=dict)

    def bytes(self) -> bytes:
        pages = [10 + 2 * index for index in range(len(self.contents))]
        kids = " ".join(f"{number} 0 R" for number in pages)
        objects: dict[int, bytes] = {
            1: f"<< /Type /Catalog /Pages 2 0 R {self.catalog} >>".encode(),
            2: f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode(),
            3: self.font.encode("latin-1"),
        }
        for number, content in zip(pages, self.contents, strict=True):
            box = "" if "/MediaBox" in self.page else "/MediaBox [0 0 400 300]"
            resources = f"/Resources << /Font << /F1 3 0 R >> {self.resources} >>"
            objects[number] = (
                f"<< /Type /Page /Parent 2 0 R {box} {self.page} {resources} /Contents {number + 1} 0 R >>".encode()
            )
            objects[number + 1] = stream(content)
        objects |= {
            number: one if isinstance(one, bytes) else one.encode("latin-1") for number, one in self.more.items()
        }
        return written(objects)


def stream(content: bytes, entries: str = "") -> bytes:
    return b"<< /Length %d %s >>\nstream\n%s\nendstream" % (len(content), entries.encode(), content)


def shown(text: str, y: int = 200) -> bytes:
    escaped = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
    return f"BT /F1 18 Tf 40 {y} Td ({escaped}) Tj ET\n".encode("latin-1")


def written(objects: dict[int, bytes]) -> bytes:
    out = bytearray(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
    offsets: dict[int, int] = {}
    for number, body in sorted(objects.items()):
        offsets[number] = len(out)
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    size, start = max(objects) + 1, len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % size
    for number in range(1, size):
        out += b"%010d 00000 n \n" % offsets[number] if number in offsets else b"0000000000 00000 f \n"
    return bytes(out + b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (size, start))


def with_astray_entry(content: bytes, number: int, offset: int = 9_999_999) -> bytes:
    """The cross-reference of an object leads elsewhere."""
    at = re.search(rb"\n%d 0 obj" % number, content)
    assert at is not None
    changed = content.replace(b"%010d 00000 n" % (at.start() + 1), b"%010d 00000 n" % offset)
    assert changed != content
    return changed


def packed(content: bytes, **saving: object) -> bytes:
    """The same PDF with compressed objects, or encrypted."""
    output = io.BytesIO()
    with pikepdf.open(io.BytesIO(content)) as pdf:
        pdf.save(output, **{"object_stream_mode": pikepdf.ObjectStreamMode.generate, **saving})  # type: ignore[arg-type]
    return output.getvalue()


def widget(value: str, *, kind: str = "Tx", more: str = "", rect: str = "[40 100 360 130]") -> str:
    return (
        f"<< /Type /Annot /Subtype /Widget /FT /{kind} /T (name) /F 4 /Rect {rect} /DA (/F1 14 Tf 0 g) "
        f"{f'/V ({value})' if value else ''} {more} >>"
    )


def form(fields: Sequence[str], *, listed: bool = True) -> Strange:
    """A page with fields, which the form lists."""
    numbers = [50 + index for index in range(len(fields))]
    refs = " ".join(f"{number} 0 R" for number in numbers)
    catalog = f"/AcroForm << /Fields [{refs if listed else ''}] /DA (/F1 14 Tf 0 g) /DR << /Font << /F1 3 0 R >> >> >>"
    return Strange(
        [shown("Name of the applicant", 250)],
        catalog,
        f"/Annots [{refs}]",
        more=dict(zip(numbers, fields, strict=True)),
    )


def layered(content: bytes, configuration: str, *, more: dict[int, str | bytes] | None = None) -> Strange:
    """Layers 30 (L1) and 31 (L2) with a default configuration."""
    return Strange(
        [content],
        f"/OCProperties << /OCGs [30 0 R 31 0 R] /D << {configuration} >> >>",
        resources="/Properties << /L1 30 0 R /L2 31 0 R /M 32 0 R >> /XObject << /X 40 0 R >>",
        more={
            30: "<< /Type /OCG /Name (English) >>",
            31: "<< /Type /OCG /Name (Deutsch) >>",
            32: "<< /Type /OCMD /OCGs [30 0 R 31 0 R] /P /AllOn >>",
            **(more or {}),
        },
    )
