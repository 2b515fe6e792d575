"""The output of the client commands: text without control characters, and JSON lines."""

from __future__ import annotations

import json
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text


def plain(text: str) -> str:
    """`text` on one line, without control, formatting or unpaired surrogate characters.

    File names and page texts come from strangers: an escape sequence or a right-to-left override in one of them must
    not reach the terminal.
    """
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def cell(text: str, style: str = "") -> Text:
    """`text` for a table or a line, made harmless and never read as rich markup."""
    return Text(plain(text), style=style)


def shortened(text: str, most_chars: int = 13) -> str:
    """`text`, or its beginning and "…". A table shows ids and fingerprints so; `--json` shows them whole."""
    return text if len(text) <= most_chars else f"{text[: most_chars - 1]}…"


def add_text_column(table: Table, name: str, min_width: int) -> None:
    """A column whose text goes on in further lines where the table is narrow, but not in fewer than `min_width`."""
    table.add_column(name, overflow="fold", min_width=min_width)


def stdout() -> Console:
    return Console(highlight=False, emoji=False, soft_wrap=False)


def say(*parts: Text | str) -> None:
    """Print one line of `parts`, unwrapped, so that scripts can read it too."""
    console = stdout()
    line = Text(" ").join(part if isinstance(part, Text) else cell(part) for part in parts)
    console.print(line, soft_wrap=True)


def write_json_line(value: dict[str, Any]) -> None:
    """One object on one line of ASCII, so that no file name can break a reader or a terminal."""
    typer.echo(json.dumps(value))
