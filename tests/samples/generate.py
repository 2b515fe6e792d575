"""Make the sample PDFs: `python -m tests.samples.generate FOLDER`. The same bytes every time.

Four documents: a manual of prose, a report with tables, a booklet of vector charts with captions, and a handbook of
sixty pages, for which the default policy chooses its lower DPI. Every page has its own subject.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from tests.samples import charts
from tests.samples.layout import Sheets

_TEXTS = Path(__file__).parent


def generate(folder: Path) -> list[Path]:
    """Write all samples into `folder`, which must exist; returns their paths."""
    made = []
    for name, sheets in (
        ("espresso-machine-manual", _manual(_load("manual"))),
        ("harbour-annual-report", _report(_load("report"))),
        ("weather-station-charts", _climate(_load("climate"))),
        ("householders-handbook", _handbook(_load("handbook"))),
    ):
        path = folder / f"{name}.pdf"
        sheets.output(str(path))
        made.append(path)
    return made


def _load(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((_TEXTS / f"{name}.yaml").read_text(encoding="utf-8"))
    return content


def _manual(content: dict[str, Any]) -> Sheets:
    sheets = Sheets(content["title"])
    for number, section in enumerate(content["sections"], start=1):
        sheets.begin(f"{number}. {section['title']}")
        for paragraph in section["paragraphs"]:
            sheets.paragraph(paragraph)
    return sheets


def _report(content: dict[str, Any]) -> Sheets:
    sheets = Sheets(content["title"])
    for section in content["sections"]:
        sheets.begin(section["title"])
        for paragraph in section["paragraphs"]:
            sheets.paragraph(paragraph)
        if "table" in section:
            sheets.grid(section["table"])
    return sheets


def _climate(content: dict[str, Any]) -> Sheets:
    sheets = Sheets(content["title"])
    for chart in content["charts"]:
        sheets.begin(chart["title"])
        charts.KINDS[chart["kind"]](sheets, chart["series"], chart["unit"])
        sheets.paragraph(chart["caption"])
    return sheets


def _handbook(content: dict[str, Any]) -> Sheets:
    sheets = Sheets(content["title"])
    for number, chapter in enumerate(content["chapters"], start=1):
        sheets.begin(f"Chapter {number}: {chapter['title']}")
        sheets.paragraph(chapter["text"])
    return sheets


if __name__ == "__main__":
    for made in generate(Path(sys.argv[1])):
        print(made)
