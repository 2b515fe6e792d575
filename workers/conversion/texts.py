"""Code of a conversion child: makes a UTF-8 text or HTML file from a text in another encoding, or from Markdown."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Final

from markdown_it import MarkdownIt

from ingestion.errors import ConversionFailed
from ingestion.formats.media_types import MediaType

_MOST_BYTES: Final = 64 * 1024**2
_PAGE: Final = '<!DOCTYPE html><html><head><meta charset="utf-8"></head><body>\n{}</body></html>\n'


def text_to_utf8(path: str, media_type: str) -> bytes:
    """In the child: the text in UTF-8; as HTML where it is Markdown. Raises ConversionFailed."""
    content = Path(path).read_bytes()
    if len(content) > _MOST_BYTES:
        raise ConversionFailed(f"the text has {len(content)} bytes; at most {_MOST_BYTES} are converted")
    text = _decoded(content)
    if "\0" in text:
        raise ConversionFailed("the file begins as text and contains binary data")
    if media_type == MediaType.MARKDOWN:
        markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
        text = _PAGE.format(markdown.render(text))
    return text.encode("utf-8", "replace")


def _decoded(content: bytes) -> str:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", "replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")
