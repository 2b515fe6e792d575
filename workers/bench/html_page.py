"""A report as one HTML file. It has no scripts and loads nothing."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final

from ingestion.errors import BadRequest

_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1c2330 }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; padding: .3rem .6rem; vertical-align: top }
tr { border-bottom: 1px solid #dde2ea } th { color: #5a6576; font-weight: 600 } td { overflow-wrap: break-word }
span { white-space: nowrap }
svg { max-width: 100%; height: auto } pre { white-space: pre-wrap; margin: 0; font-size: .85rem }
.passed { color: #17703a } .failed { color: #b3261e } .skipped { color: #8a6100 } .note { color: #5a6576 }
@media (prefers-color-scheme: dark) { svg { background: #fff } body { background: #14181f; color: #e3e7ee }
 tr { border-color: #2c3440 } .passed { color: #57c98a } .failed { color: #ff8a80 } .skipped { color: #e0b34c } }
"""


class Markup(str):
    """Text that is HTML already. A table escapes every cell that is not Markup."""

    __slots__ = ()


def marked(text: str, css_class: str) -> Markup:
    return Markup(f'<span class="{css_class}">{escape(text)}</span>')


def preformatted(text: str) -> Markup:
    return Markup(f"<pre>{escape(text)}</pre>")


def paragraph(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'


def section(title: str, *parts: str) -> str:
    return f"<h2>{escape(title)}</h2>\n" + "\n".join(parts)


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    head = "".join(f"<th>{escape(header)}</th>" for header in headers)
    body = "\n".join("<tr>" + "".join(f"<td>{_cell(value)}</td>" for value in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>"


def page(title: str, *parts: str) -> str:
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body>\n<h1>{escape(title)}</h1>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def require_writable(path: Path) -> None:
    """Raises BadRequest. Call it before the run, which takes long."""
    try:
        with path.open("a"):
            pass
    except OSError as error:
        raise BadRequest(f"{path} cannot be written: {error.strerror}") from error


def _cell(value: object) -> str:
    return value if isinstance(value, Markup) else escape(str(value))
