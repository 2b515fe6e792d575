"""Constructs the converter of a worker from its settings."""

from __future__ import annotations

from contextlib import nullcontext

from ingestion.adapters.gotenberg import Gotenberg
from ingestion.concurrency.fair_limiter import WhileWaiting
from ingestion.errors import InvalidSetting
from ingestion.model import MOST_CONVERTED_PAGES
from ingestion.ports import OfficeConverter
from ingestion.settings import Settings
from workers.conversion.converter import FileConverter
from workers.conversion.soffice import LibreOffice


def converter_of(settings: Settings, *, while_waiting: WhileWaiting = nullcontext) -> FileConverter:
    """Raises InvalidSetting. Whether LibreOffice is installed shows when a file needs it."""
    most_pages = min(settings.api.max_pages, MOST_CONVERTED_PAGES)
    return FileConverter(
        settings.conversion,
        _office(settings, most_pages),
        most_pages=most_pages,
        page_px=settings.render.max_page_px,
        while_waiting=while_waiting,
    )


def _office(settings: Settings, most_pages: int) -> OfficeConverter | None:
    chosen, address = settings.conversion.converter, settings.conversion.gotenberg_url
    if chosen == "gotenberg" and not address:
        raise InvalidSetting("PAGEMILL_CONVERTER is gotenberg, and PAGEMILL_GOTENBERG_URL is not set")
    if chosen == "off":
        return None
    if chosen == "gotenberg" or (chosen == "auto" and address):
        return Gotenberg(settings.conversion, most_pages=most_pages)
    return LibreOffice(settings.conversion, most_pages=most_pages)
