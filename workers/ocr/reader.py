"""Gives pages a text where their text layer is missing or useless."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from importlib.util import find_spec
from typing import Final, Literal

import structlog

from ingestion import metrics
from ingestion.concurrency.fair_limiter import FairLimiter, WhileWaiting
from ingestion.concurrency.tasks import gather_or_cancel
from ingestion.errors import ChildStalled, OcrMissing
from ingestion.model import Page, TextSource
from ingestion.sandbox.failures import ChildCrashed, ChildTimeout
from ingestion.sandbox.pool import Sandbox
from ingestion.settings import OcrSettings
from workers.ocr.ocr_child import PageText, read_page
from workers.ocr.usefulness import is_useful, letters_in

log = structlog.get_logger(__name__)

INSTALL: Final = "pip install 'pagemill[ocr]'"
_ANSWER_BYTES: Final = 4 * 1024**2
_CHAR_BYTES: Final = 4


class OcrReader:
    """Implements the port TextReader. `embeds_text`: the embedder reads the texts of pages, and not their images."""

    def __init__(
        self,
        settings: OcrSettings,
        *,
        max_chars: int,
        embeds_text: bool,
        while_waiting: WhileWaiting = nullcontext,
    ) -> None:
        """Raises OcrMissing where PAGEMILL_OCR is `always` and RapidOCR is not installed."""
        self._settings = settings
        self._max_chars = max_chars
        self._mode = _mode(settings.ocr, embeds_text=embeds_text)
        self._sandbox = Sandbox(
            processes=settings.ocr_processes, memory_bytes=settings.ocr_memory_bytes, log_protections=False
        )
        self._turns = FairLimiter(settings.ocr_processes, while_waiting=while_waiting)
        self.reads = 0

    async def with_text(self, pages: Sequence[Page], *, caller: str) -> list[Page]:
        return await gather_or_cancel(*(self._with_text(page, caller) for page in pages))

    async def _with_text(self, page: Page, caller: str) -> Page:
        if self._mode == "off" or (self._mode == "auto" and is_useful(page.text)):
            return page
        async with self._turns.slot(caller):
            found = await self._read(page)
        if self._mode == "auto" and letters_in(found.text) <= letters_in(page.text):
            return page
        return replace(page, text=found.text, words=found.words, text_source=TextSource.OCR) if found.text else page

    async def _read(self, page: Page) -> PageText:
        """A page that cannot be read has no text: its document does not fail."""
        try:
            with metrics.OCR.time():
                found = await self._sandbox.run(
                    read_page, page.image, self._max_chars,
                    timeout_s=self._settings.ocr_timeout_s, keep=False,
                    answer_bytes=_ANSWER_BYTES + _CHAR_BYTES * self._max_chars,
                )  # fmt: skip
        except (ChildCrashed, ChildTimeout, ChildStalled) as error:
            log.warning("page not read", page_number=page.page_number, cause=str(error))
            metrics.OCR_PAGES.labels("failed").inc()
            return PageText("", is_blank=False)
        finally:
            self.reads += 1
        metrics.OCR_PAGES.labels("blank" if found.is_blank else "read" if found.text else "empty").inc()
        return found


def _mode(chosen: Literal["auto", "off", "always"], *, embeds_text: bool) -> Literal["auto", "off", "always"]:
    """Raises OcrMissing."""
    if chosen == "off" or (chosen == "auto" and not embeds_text):
        return "off"
    if find_spec("rapidocr") is not None and find_spec("onnxruntime") is not None:
        return chosen
    if chosen == "always":
        raise OcrMissing(f"PAGEMILL_OCR is always, and RapidOCR is not installed: run `{INSTALL}`")
    log.warning("pages without a text layer are not read", cause=f"RapidOCR is not installed: run `{INSTALL}`")
    return "off"
