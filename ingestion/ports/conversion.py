"""Conversion of uploaded files to PDF."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class Converter(Protocol):
    """Converts files of other types to PDF. Converting twice is safe and gives the same pages."""

    async def convert(self, source: Path, media_type: str, target: Path, *, caller: str = "") -> None:
        """Write the PDF of the file `source` to `target`. Both are in a folder of the caller.

        Waits for a turn: files with the same `caller` delay each other, not those of others.

        Raises ConversionFailed, ConverterMissing, UnsupportedType, TooManyPages; ChildStalled where the machine is too
        busy, and ConverterUnavailable where a conversion server does not answer.
        """


class OfficeConverter(Protocol):
    """A program or a server that converts office files."""

    async def convert(self, source: Path, media_type: str, target: Path) -> None:
        """Write the PDF of `source` to `target`. Raises as Converter.convert."""
