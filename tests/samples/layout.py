"""The look of the sample PDFs: A4, core fonts, a running title, the page number."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from fpdf import FPDF
from fpdf.enums import Align, XPos, YPos

_WHEN: Final = datetime(2024, 1, 1, tzinfo=UTC)
_BODY_PT: Final = 11
_LINE_MM: Final = 6.0


class Sheets(FPDF):
    """A document with one subject per page. Its bytes depend only on the content."""

    def __init__(self, title: str) -> None:
        super().__init__(format="A4")
        self._running_title = title
        self.set_title(title)
        self.set_creation_date(_WHEN)
        self.set_margin(22)
        self.set_auto_page_break(auto=False)

    def header(self) -> None:
        self.set_font("Helvetica", "I", 8)
        self._line(self._running_title, 10, Align.R)

    def footer(self) -> None:
        self.set_y(-18)
        self.set_font("Helvetica", "", 8)
        self._line(str(self.page_no()), 8, Align.C)

    def begin(self, heading: str) -> None:
        """A new page under `heading`, which is also an entry of the outline."""
        self.add_page()
        self.start_section(heading)
        self.set_font("Times", "B", 17)
        self._line(heading, 14, Align.L)

    def paragraph(self, text: str) -> None:
        self.set_font("Times", "", _BODY_PT)
        self.multi_cell(0, _LINE_MM, text, new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self.ln(_LINE_MM / 2)

    def grid(self, rows: list[list[str]]) -> None:
        """A ruled table; the first row is its header, the first column is text, the others are numbers."""
        self.set_font("Helvetica", "", 10)
        columns = len(rows[0])
        alignments = ("LEFT", *["RIGHT"] * (columns - 1))
        with self.table(rows, col_widths=(columns, *[2] * (columns - 1)), text_align=alignments, line_height=8):
            pass

    def _line(self, text: str, height_mm: float, align: Align) -> None:
        self.cell(0, height_mm, text, align=align, new_x=XPos.LMARGIN, new_y=YPos.NEXT)
