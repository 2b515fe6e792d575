"""Code of a conversion child: makes a UTF-8 text, CSV or HTML file from a text in another encoding or form."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Final

from markdown_it import MarkdownIt

from ingestion.errors import ConversionFailed
from ingestion.formats.media_types import MediaType

_MOST_BYTES: Final = 64 * 1024**2
_SEPARATORS: Final = (",", ";", "\t", "|")
_SAMPLE_LINES: Final = 50
_PAGE: Final = '<!DOCTYPE html><html><head><meta charset="utf-8"></head><body>\n{}</body></html>\n'


def text_to_utf8(path: str, media_type: str) -> bytes:
    """In the child: the text in UTF-8. Markdown becomes HTML, and CSV gets commas. Raises ConversionFailed."""
    content = Path(path).read_bytes()
    if len(content) > _MOST_BYTES:
        raise ConversionFailed(f"the text has {len(content)} bytes; at most {_MOST_BYTES} are converted")
    text = _decoded(content)
    if "\0" in text:
        raise ConversionFailed("the file begins as text and contains binary data")
    if media_type == MediaType.MARKDOWN:
        markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
        text = _PAGE.format(markdown.render(text))
    if media_type == MediaType.CSV:
        text = _with_commas(text)
    return text.encode("utf-8", "replace")


def _with_commas(text: str) -> str:
    """The rows, separated by commas. The separator is the one that most of the first lines have, most often."""
    lines = [line for line in text.splitlines()[:_SAMPLE_LINES] if line.strip()]
    separator = max(_SEPARATORS, key=lambda one: (sum(one in line for line in lines), sum(map(_count(one), lines))))
    if separator == _SEPARATORS[0]:
        return text
    output = io.StringIO()
    try:
        csv.writer(output).writerows(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
    except csv.Error as error:
        raise ConversionFailed(f"the CSV file cannot be read: {error}") from error
    return output.getvalue()


def _count(separator: str) -> Callable[[str], int]:
    return lambda line: line.count(separator)


def _decoded(content: bytes) -> str:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", "replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")
