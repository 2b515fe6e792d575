"""The stored form of a page's words: zlib over a header, their boxes, and their texts.

    uint8 version, uint32 words, then for all words four lists of int16: the distance from the end of the word before,
    the distance of the top from that of the word before, width and height, in 8,191ths of the image's width or height;
    then the texts in UTF-8, one a line. All is little-endian.

A page of 400 words takes about 3 KB. Confined children write it, so a reader takes it as hostile.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from ingestion.words.splitting import spans_of

SCALE: Final = 8_191
MOST_WORDS: Final = 20_000
MOST_CHARS: Final = 200_000
MOST_BYTES: Final = 1024**2
"""The longest stored form that is accepted."""
_VERSION: Final = 1
_HEADER: Final = struct.Struct("<BI")
_SIDES: Final = 4
_MOST_INFLATED: Final = _HEADER.size + MOST_WORDS * (2 * _SIDES + 1) + 4 * MOST_CHARS

Box = tuple[int, int, int, int]
"""Left, top, right and bottom of the upright page, in SCALE-ths of its width and height."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word and the box around it."""

    text: str
    box: Box


def encode_words(words: Sequence[Word]) -> bytes:
    """The first MOST_WORDS words of at most MOST_CHARS characters. No words give no bytes."""
    kept, chars = list[Word](), 0
    for word in words[:MOST_WORDS]:
        chars += len(word.text)
        if chars > MOST_CHARS:
            break
        kept.append(word)
    if not kept:
        return b""
    boxes = [_inside(*word.box) for word in kept]
    rows = [
        (left - last_right, top - last_top, right - left, bottom - top)
        for (_, last_top, last_right, _), (left, top, right, bottom) in pairwise([(0, 0, 0, 0), *boxes])
    ]
    sides = [row[side] for side in range(_SIDES) for row in rows]
    texts = "\n".join(word.text for word in kept).encode()
    return zlib.compress(_HEADER.pack(_VERSION, len(kept)) + struct.pack(f"<{len(sides)}h", *sides) + texts)


def decode_words(stored: bytes) -> list[Word]:
    """The inverse of `encode_words`. Raises ValueError where `stored` is something else."""
    if not stored:
        return []
    try:
        inflated = zlib.decompressobj().decompress(stored, _MOST_INFLATED)
        version, count = _HEADER.unpack_from(inflated)
        if version != _VERSION or count > MOST_WORDS:
            raise ValueError(f"boxes of {count} words in version {version}")
        sides = struct.unpack_from(f"<{_SIDES * count}h", inflated, _HEADER.size)
        texts = inflated[_HEADER.size + 2 * len(sides) :].decode().split("\n")
    except (zlib.error, struct.error) as error:
        raise ValueError(f"these are no boxes of words: {error}") from error
    if len(texts) != count:
        raise ValueError(f"{len(texts)} texts for {count} boxes")
    lists = (sides[side * count : (side + 1) * count] for side in range(_SIDES))
    words, right, top = list[Word](), 0, 0
    for text, gap, down, width, height in zip(texts, *lists, strict=True):
        left, top = right + gap, top + down
        right = left + width
        words.append(Word(text, _inside(left, top, right, top + height)))
    return words


def words_in(text: str, box: tuple[float, float, float, float]) -> list[Word]:
    """The words of a text on one line, whose box is given in 0 to 1: each gets the part that its characters take."""
    left, top, right, bottom = box
    width = (right - left) / max(len(text), 1)
    return [
        Word(text[start:end], scaled(left + start * width, top, left + end * width, bottom))
        for start, end in spans_of(text)
    ]


def scaled(left: float, top: float, right: float, bottom: float) -> Box:
    """A box from sides in 0 to 1."""
    return _inside(round(left * SCALE), round(top * SCALE), round(right * SCALE), round(bottom * SCALE))


def _inside(left: int, top: int, right: int, bottom: int) -> Box:
    """The part of a box that is on the page."""
    return _bounded(left), _bounded(top), _bounded(right), _bounded(bottom)


def _bounded(side: int) -> int:
    return min(max(side, 0), SCALE)
