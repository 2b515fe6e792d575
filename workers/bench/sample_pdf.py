"""PDFs for measurements and checks: text, pictures and charts, made from a seed.

Equal seeds give equal bytes; different seeds give different documents, so that no upload is a repetition of another.
"""

from __future__ import annotations

import random
import textwrap
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_A4_PT: Final = (595, 842)
_CATALOG, _TREE, _FONT = 1, 2, 3
_OBJECTS_PER_PAGE: Final = 3
_PICTURE_PX: Final = (160, 120)
_BARS: Final = 12
_LINE_CHARS: Final = 88
_WORDS_EACH: Final = 7


def _phrases(text: str, separator: str = " ") -> tuple[str, ...]:
    return tuple(text.split(separator))


_ADJECTIVES: Final = _phrases(
    "bronze coastal double early frozen hollow inner late level loose main narrow north open outer plain quiet rear "
    "round rusted sealed second shallow silent spare steel tidal upper vacant wooden"
)
_NOUNS: Final = _phrases(
    "anchor archive barrel basin beacon bearing boiler bridge buffer cable canal chart column compass crane cylinder "
    "dam engine filter furnace gauge harbour hinge ledger lever lock meter mill orchard pipe piston pump quarry rail "
    "reservoir rudder sensor shaft sluice spindle station tank tower turbine tunnel valve vessel warehouse wheel winch"
)
_VERBS: Final = _phrases(
    "adjusts blocks carries checks cools covers drives empties feeds fills guards heats holds joins lifts limits "
    "loads measures moves needs opens passes replaces seals shows stops supports turns warns"
)
_ENDS: Final = _phrases(
    "at low tide|before each start|during the night|every third week|in dry weather|once the alarm has ended|"
    "under full load|until the pressure falls|when the door is closed|without a permit",
    "|",
)


@dataclass(frozen=True, slots=True)
class SamplePdf:
    """`subjects` has the subject of each page. A search for a subject should find its page."""

    content: bytes
    subjects: Sequence[str]


def sample_pdf(seed: str, pages: int) -> SamplePdf:
    """Return a PDF of `pages` pages. Two of three pages are text; every third has a picture or a chart too."""
    subjects, parts = [], []
    for number in range(1, pages + 1):
        words = _Words(f"{seed}/{number}")
        subject = f"{words.phrase()} and {words.phrase()}"
        subjects.append(subject)
        parts.append(_page(words, f"{number}. The {subject}", has_picture=number % 3 == 0))
    return SamplePdf(_write(parts), subjects)


class _Words(random.Random):
    """Choose words for one page: a page of a real document has a subject too."""

    def __init__(self, seed: str) -> None:
        super().__init__(seed)
        self._adjectives = self.sample(_ADJECTIVES, _WORDS_EACH)
        self._nouns = self.sample(_NOUNS, _WORDS_EACH)
        self._verbs = self.sample(_VERBS, _WORDS_EACH)

    def phrase(self) -> str:
        return f"{self.choice(self._adjectives)} {self.choice(self._nouns)}"

    def sentence(self) -> str:
        return f"The {self.phrase()} {self.choice(self._verbs)} the {self.phrase()} {self.choice(_ENDS)}."


def _page(words: _Words, heading: str, *, has_picture: bool) -> tuple[bytes, bytes]:
    """Return the page's content and its picture, in RGB."""
    sentences = [words.sentence() for _ in range(words.randint(12, 20) if has_picture else words.randint(30, 55))]
    lines = textwrap.wrap(" ".join(sentences), _LINE_CHARS)
    drawn = _chart(words) if has_picture else ""
    shown = "".join(f"({line}) '\n" for line in lines)
    text = f"BT /F1 16 Tf 50 780 Td ({heading}) Tj ET\nBT /F1 11 Tf 14 TL 50 760 Td {shown}ET\n"
    return f"{text}{drawn}".encode("ascii"), _picture(words) if has_picture else b"\0\0\0"


def _chart(words: random.Random) -> str:
    """Return bars of random heights, and the position of the picture beside them."""
    bars = [
        f"0.2 0.3 {words.random():.2f} rg {50 + 18 * bar} 90 12 {words.randint(10, 220)} re f" for bar in range(_BARS)
    ]
    return "\n".join(bars) + "\nq 260 0 0 195 290 90 cm /Picture Do Q\n"


def _picture(words: random.Random) -> bytes:
    """Return a gradient with noise: it compresses as badly as a photograph."""
    width, height = _PICTURE_PX
    noise = words.randbytes(width * height)
    red, green, blue = (words.randint(40, 200) for _ in range(3))
    return bytes(
        value
        for at, grain in enumerate(noise)
        for value in (red, (green + at // width) % 256, (blue + at % width + grain // 8) % 256)
    )


def _write(parts: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Return a PDF 1.7 file with a cross-reference table."""
    firsts = range(_FONT + 1, _FONT + 1 + _OBJECTS_PER_PAGE * len(parts), _OBJECTS_PER_PAGE)
    kids = " ".join(f"{first} 0 R" for first in firsts)
    objects = {
        _CATALOG: f"<< /Type /Catalog /Pages {_TREE} 0 R >>".encode(),
        _TREE: f"<< /Type /Pages /Count {len(parts)} /Kids [{kids}] >>".encode(),
        _FONT: b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    }
    for first, (content, picture) in zip(firsts, parts, strict=True):
        objects[first] = (
            f"<< /Type /Page /Parent {_TREE} 0 R /MediaBox [0 0 {_A4_PT[0]} {_A4_PT[1]}] /Contents {first + 1} 0 R "
            f"/Resources << /Font << /F1 {_FONT} 0 R >> /XObject << /Picture {first + 2} 0 R >> >> >>"
        ).encode()
        objects[first + 1] = _stream(content, "")
        width, height = _PICTURE_PX if len(picture) > 3 else (1, 1)
        objects[first + 2] = _stream(
            picture,
            f"/Type /XObject /Subtype /Image /Width {width} /Height {height} /ColorSpace /DeviceRGB "
            "/BitsPerComponent 8",
        )
    return _file(objects)


def _stream(data: bytes, entries: str) -> bytes:
    packed = zlib.compress(data)
    return b"<< %s /Length %d /Filter /FlateDecode >> stream\n%s\nendstream" % (entries.encode(), len(packed), packed)


def _file(objects: dict[int, bytes]) -> bytes:
    out = bytearray(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
    offsets = []
    for number in sorted(objects):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, objects[number])
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    out += b"trailer\n<< /Size %d /Root %d 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, _CATALOG, start)
    return bytes(out)
