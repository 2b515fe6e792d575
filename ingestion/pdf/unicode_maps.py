"""Take useless entries out of the ToUnicode maps of fonts: NUL, other control characters, and halves of characters.

Without an entry, readers take the character from the name of the glyph.
"""

from __future__ import annotations

import re
from typing import Final

import pikepdf
from pikepdf import Array, Dictionary, Pdf

_SUSPECT: Final = re.compile(rb"<\s*(?:00[01][0-9a-fA-F]|[dD][89a-fA-F][0-9a-fA-F]{2}|[fF]{3}[d-fD-F])\s*>")
"""May be a useless target, and may be a code."""
_BLOCK: Final = re.compile(rb"\d+\s*begin(bfchar|bfrange)(.*?)endbf(?:char|range)", re.S)
_WORD: Final = re.compile(rb"<[^>]*>|\[[^\]]*\]")
_MOST_CODES: Final = 256
_LIGATURES: Final = {name: name for name in ("ff", "fi", "fl", "ffi", "ffl", "st", "ct", "ft", "fj", "tt", "ti", "Th")}
"""Readers turn these names into one character, which no search finds."""


def mend_unicode_map(pdf: Pdf, font: Dictionary) -> bool:
    """Mend the map of a font with codes of one byte. True where it was changed."""
    stream = font.get("/ToUnicode")
    if not isinstance(stream, pikepdf.Stream) or "/DescendantFonts" in font:
        return False
    text = stream.read_bytes()
    if not _SUSPECT.search(text):
        return False
    entries, names = _entries(text), _glyph_names(font)
    useless = {code for code, target in entries.items() if code in names and _is_useless(target)}
    if not useless:
        return False
    useful = {code: target for code, target in entries.items() if code not in useless}
    for code in useless:
        if (ligature := _LIGATURES.get(names[code].replace("_", ""))) is not None:
            useful[code] = ligature
    first = _BLOCK.search(text)
    end = text.rfind(b"endcmap")
    if first is None or end < first.start():
        return False
    font["/ToUnicode"] = pdf.make_stream(text[: first.start()] + _blocks(useful) + text[end:])
    return True


def _is_useless(target: str) -> bool:
    return not target or all(one < " " or one in "\ufffd\ufffe\uffff" or "\ud800" <= one <= "\udfff" for one in target)


def _entries(text: bytes) -> dict[int, str]:
    """The characters of each code. A later entry replaces an earlier one."""
    entries: dict[int, str] = {}
    for block in _BLOCK.finditer(text):
        words = _WORD.findall(block[2])
        if block[1] == b"bfchar":
            entries.update((_code(code), _characters(to)) for code, to in zip(words[::2], words[1::2], strict=False))
            continue
        for low, high, target in zip(words[::3], words[1::3], words[2::3], strict=False):
            codes = range(_code(low), min(_code(high), _code(low) + _MOST_CODES) + 1)
            if target.startswith(b"["):
                targets = [_characters(one) for one in _WORD.findall(target[1:-1])]
            else:
                start = _characters(target)
                targets = [start[:-1] + chr(min(ord(start[-1]) + at, 0x10FFFF)) for at in range(len(codes)) if start]
            entries.update(zip(codes, targets, strict=False))
    return entries


def _code(word: bytes) -> int:
    return int(word[1:-1], 16)


def _characters(word: bytes) -> str:
    return bytes.fromhex(word[1:-1].decode("ascii")).decode("utf-16-be", "surrogatepass")


def _blocks(entries: dict[int, str]) -> bytes:
    lines = [f"<{code:02X}> <{said.encode('utf-16-be', 'surrogatepass').hex()}>" for code, said in entries.items()]
    parts = [lines[at : at + 100] for at in range(0, len(lines), 100)]
    return "".join(f"{len(part)} beginbfchar\n" + "\n".join(part) + "\nendbfchar\n" for part in parts).encode()


def _glyph_names(font: Dictionary) -> dict[int, str]:
    """By code."""
    encoding = font.get("/Encoding")
    found = encoding.get("/Differences") if isinstance(encoding, Dictionary) else None
    names: dict[int, str] = {}
    code = 0
    for entry in found if isinstance(found, Array) else ():
        if isinstance(entry, int):
            code = entry
        else:
            names[code] = str(entry).removeprefix("/")
            code += 1
    return names
