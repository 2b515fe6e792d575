"""Inspection of uploaded PDFs, in which no file delays other callers for long.

upload -> turn of its caller -> first look, a fraction of a second of CPU time -> page count, or an error
                                    | needs longer
                                    v
                                one such file at a time, with all of the limit
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

from ingestion.concurrency.fair_limiter import FairLimiter
from ingestion.pdf.confined import PdfTooSlow, inspect_pdf
from ingestion.pdf.pdfium import PdfInfo
from ingestion.sandbox.pool import WALL_FACTOR, Sandbox

FIRST_LOOK_S: Final = 0.25
"""CPU time. Ordinary files take milliseconds, 10,000 pages take 50 ms; a large file without a cross-reference table,
which has to be searched, takes longer."""


class Inspector:
    """Inspects uploaded PDFs. `sandbox` needs a child for each of `processes` first looks, and one for a long look."""

    def __init__(self, sandbox: Sandbox, *, processes: int, max_pages: int, timeout_s: float) -> None:
        self._sandbox = sandbox
        self._max_pages = max_pages
        self._timeout_s = timeout_s
        self._first_looks = FairLimiter(processes)
        self._long_looks = FairLimiter(1)

    async def inspect(self, path: Path, *, caller: str) -> PdfInfo:
        """Waits for a turn of `caller`. Raises what `inspect_pdf` raises."""
        if self._timeout_s > FIRST_LOOK_S:
            with suppress(PdfTooSlow):
                async with self._first_looks.slot(caller):
                    return await self._look(path, FIRST_LOOK_S)
        async with self._long_looks.slot(caller):
            return await self._look(path, self._timeout_s)

    async def _look(self, path: Path, cpu_s: float) -> PdfInfo:
        # On a busy machine a first look may take as long by the clock as a long one.
        wall_s = WALL_FACTOR * self._timeout_s
        return await inspect_pdf(self._sandbox, path, max_pages=self._max_pages, timeout_s=cpu_s, wall_s=wall_s)
