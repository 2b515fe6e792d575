"""Code of an OCR child: reads the text of a page from its image.

The launcher loads the models once, before it forks children: `prepare_launcher`. A child is forked for each page.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from PIL import Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from ingestion.words.boxes import Word, encode_words, words_in
from workers.rendering.unwanted import UNWANTED

_PLUGINS: Final = (JpegImagePlugin, PngImagePlugin, WebPImagePlugin)
_FORMATS: Final = ("PNG", "JPEG", "WEBP")
_DETECTION_SIDE_PX: Final = 960
"""The longer side of the picture in which lines are found. Each line is then read at the page's own resolution."""
_LEAST_CONTRAST: Final = 24
"""Grey levels between the darkest and the lightest part of a page that is not blank."""
_BLANK_SIDE_PX: Final = 256
_LEAST_SCORE: Final = 0.5
_LEAST_PAGE_SCORE: Final = 0.85
"""Mean score of a page's letters. Pages in Latin letters have 0.97 and more, noisy ones 0.92. Pages that
are upside down, and scripts that the models do not know, have 0.6 to 0.83, and a wrong text."""
_LEAST_TURNED_SCORE: Final = 0.95
"""Of a page that is read once more, upside down: other scripts reach 0.9 there."""
_SAME_LINE: Final = 0.5
"""Boxes whose middles are closer than this part of their height are in one line."""

PARAMETERS: Final[dict[str, Any]] = {
    "Global.log_level": "critical",
    "Global.use_cls": False,  # it turns few of the lines that are upside down: see `_read`
    "Global.text_score": _LEAST_SCORE,
    "Global.return_word_box": True,  # takes no measurable time
    "EngineConfig.onnxruntime.intra_op_num_threads": 1,
    "EngineConfig.onnxruntime.inter_op_num_threads": 1,
    "Rec.rec_batch_num": 1,  # a batch is padded to its longest line
    "Det.limit_type": "max",
    "Det.limit_side_len": _DETECTION_SIDE_PX,
}


@dataclass(slots=True)
class _Models:
    reader: Any = None


_models: Final = _Models()


@dataclass(frozen=True, slots=True)
class PageText:
    text: str
    is_blank: bool
    words: bytes = b""
    """The words with their boxes: `ingestion.words.boxes`."""


def prepare_launcher() -> None:
    """Load the models. Raises ImportError where RapidOCR is not installed."""
    if _models.reader is None:
        import_module("cv2").setNumThreads(1)
        reader = import_module("rapidocr").RapidOCR(params=PARAMETERS)
        # The models are loaded at the first page. A fork has one thread, so none of the libraries may start others.
        reader(import_module("numpy").full((64, 256, 3), 255, dtype="uint8"))
        _models.reader = reader


def read_page(image: bytes, max_chars: int) -> PageText:
    """In the child: the text of a page, line by line from the top."""
    Image.MAX_IMAGE_PIXELS = None  # the renderer limits the size of its images
    with Image.open(io.BytesIO(image), formats=_FORMATS) as picture:
        if _is_blank(picture):
            return PageText("", is_blank=True)
        pixels = import_module("numpy").asarray(picture.convert("RGB"))[:, :, ::-1]
    found = _read(pixels)
    if found is None:
        return PageText("", is_blank=False)
    text = _in_lines([(box.tolist(), said) for box, said in zip(found.boxes, found.txts, strict=True)])
    height_px, width_px = pixels.shape[:2]
    words = encode_words(_words(found.word_results or (), width_px, height_px, is_turned=found.is_turned))
    return PageText(UNWANTED.sub("", text)[:max_chars], is_blank=False, words=words)


@dataclass(frozen=True, slots=True)
class _Found:
    """The lines of a page. `is_turned`: of the page turned by 180 degrees, which also makes 90 to 270 degrees."""

    boxes: Any
    txts: Sequence[str]
    word_results: Any
    score: float
    is_turned: bool


def _read(pixels: Any) -> _Found | None:
    """The lines of the page, which may be upside down. None where there is no text that can be read.

    The models read lines from left to right, and from top to bottom.
    """
    found = _lines(pixels, is_turned=False)
    if found is not None and found.score < _LEAST_PAGE_SCORE:
        found = _lines(pixels[::-1, ::-1].copy(), is_turned=True)
        return found if found is not None and found.score >= _LEAST_TURNED_SCORE else None
    return found


def _lines(pixels: Any, *, is_turned: bool) -> _Found | None:
    found = _models.reader(pixels)
    if found.boxes is None or not len(found.boxes):
        return None
    letters = sum(map(len, found.txts))
    total = sum(len(said) * float(score) for said, score in zip(found.txts, found.scores, strict=True))
    return _Found(found.boxes, found.txts, found.word_results, total / max(1, letters), is_turned)


def _is_blank(picture: Image.Image) -> bool:
    small = picture.convert("L").reduce(max(1, max(picture.size) // _BLANK_SIDE_PX))
    darkest, lightest = small.getextrema()
    return lightest - darkest < _LEAST_CONTRAST  # type: ignore[operator]


def _words(
    lines: Iterable[Iterable[tuple[str, float, Any]]], width_px: int, height_px: int, *, is_turned: bool
) -> list[Word]:
    """The words of all lines, whose boxes have four corners in pixels."""
    words = list[Word]()
    for line in lines:
        for said, _, corners in line:
            xs, ys = ([float(corner[axis]) for corner in corners] for axis in (0, 1))
            left, top, right, bottom = min(xs) / width_px, min(ys) / height_px, max(xs) / width_px, max(ys) / height_px
            box = (1 - right, 1 - bottom, 1 - left, 1 - top) if is_turned else (left, top, right, bottom)
            words += words_in(said, box)
    return words


def _in_lines(boxes: list[tuple[list[list[float]], str]]) -> str:
    """The texts of boxes of four corners, in reading order: boxes beside each other are one line."""
    lines: list[tuple[float, list[tuple[float, str]]]] = []
    for corners, said in sorted(boxes, key=lambda one: sum(y for _, y in one[0])):
        ys = [y for _, y in corners]
        middle, height = sum(ys) / len(ys), max(ys) - min(ys)
        if lines and middle - lines[-1][0] < _SAME_LINE * height:
            lines[-1][1].append((corners[0][0], said))
        else:
            lines.append((middle, [(corners[0][0], said)]))
    return "\n".join(" ".join(said for _, said in sorted(line)) for _, line in lines)
