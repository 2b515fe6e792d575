"""The parts of a Markdown page that name something: links, headings, code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_FENCE: Final = re.compile(r"^```.*?$\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN: Final = re.compile(r"`([^`]+)`")
_LINK: Final = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^)\s]+)\)|src=\"([^\"]+)\"")
_HEADING: Final = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Page:
    """One Markdown file."""

    path: Path

    @property
    def text(self) -> str:
        return self.path.read_text("utf-8")

    @property
    def prose(self) -> str:
        """The text without its fenced blocks."""
        return _FENCE.sub("", self.text)

    def links(self) -> list[str]:
        return [link or image for link, image in _LINK.findall(_SPAN.sub("", self.prose))]

    def anchors(self) -> set[str]:
        """What `#…` may name: GitHub's slug of each heading."""
        return {slug(heading) for heading in _HEADING.findall(self.prose)}

    def code(self) -> Iterator[str]:
        """Code spans, with their line breaks as spaces, and the lines of fenced blocks."""
        for span in _SPAN.findall(self.prose):
            yield re.sub(r"\s+", " ", span).replace("\\|", "|")
        for block in _FENCE.findall(self.text):
            yield from block.splitlines()


def slug(heading: str) -> str:
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
