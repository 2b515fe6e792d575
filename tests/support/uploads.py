"""Small PDFs to upload, for tests that are not about how their pages look."""

from __future__ import annotations

from datetime import UTC, datetime

from fpdf import FPDF

_ALWAYS_THE_SAME = datetime(2020, 1, 1, tzinfo=UTC)


def make_upload(pages: int = 3, passwords: tuple[str, str] | None = None) -> bytes:
    """Pages with a line of text each, the same bytes every time; `passwords` are the owner's and the user's."""
    pdf = FPDF(unit="pt", format=(300, 400))
    pdf.set_creation_date(_ALWAYS_THE_SAME)
    if passwords:
        pdf.set_encryption(*passwords)
    pdf.set_font("helvetica")
    for number in range(1, pages + 1):
        pdf.add_page()
        pdf.cell(text=f"page {number}")
    return bytes(pdf.output())
