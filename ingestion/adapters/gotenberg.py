"""Converts office files on a Gotenberg server (gotenberg.dev), which runs LibreOffice."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import httpx

from ingestion.errors import ConversionFailed, ConverterUnavailable
from ingestion.settings import ConversionSettings

_ROUTE: Final = "/forms/libreoffice/convert"
_WALL_FACTOR: Final = 3.0
_CONNECT_S: Final = 5.0
_SHOWN_CHARS: Final = 300


class Gotenberg:
    """Implements the port OfficeConverter. Opens a connection for each file, so there is nothing to close."""

    def __init__(self, settings: ConversionSettings, *, most_pages: int) -> None:
        self._url = settings.gotenberg_url.rstrip("/") + _ROUTE
        self._max_bytes = settings.conversion_max_bytes
        self._shown_url = httpx.URL(self._url).copy_with(userinfo=b"")  # its errors are shown to callers of the API
        self._limit_s = _WALL_FACTOR * settings.conversion_timeout_s
        self._timeout = httpx.Timeout(self._limit_s, connect=_CONNECT_S)
        self._most_pages = most_pages

    async def convert(self, source: Path, media_type: str, target: Path) -> None:
        """Raises ConversionFailed where the server refuses the file, ConverterUnavailable."""
        form = {"nativePageRanges": f"1-{self._most_pages + 1}", "updateIndexes": "false"}
        content = await asyncio.to_thread(source.read_bytes)
        try:
            async with (
                asyncio.timeout(self._limit_s),
                httpx.AsyncClient(timeout=self._timeout, trust_env=False) as client,
                client.stream("POST", self._url, data=form, files={"files": (source.name, content)}) as answer,
            ):
                await self._store(answer, target)
        except TimeoutError as error:  # the timeout of httpx starts again with each byte that arrives
            raise ConverterUnavailable(
                f"Gotenberg at {self._shown_url}: no whole answer in {self._limit_s:g} s"
            ) from error
        except httpx.HTTPError as error:
            raise ConverterUnavailable(f"Gotenberg at {self._shown_url}: {type(error).__name__}: {error}") from error

    async def _store(self, answer: httpx.Response, target: Path) -> None:
        if answer.status_code >= 500 or answer.status_code == 429:
            raise ConverterUnavailable(f"Gotenberg at {self._shown_url} answers with status {answer.status_code}")
        if answer.status_code != 200:
            said = (await answer.aread()).decode(errors="replace")[:_SHOWN_CHARS]
            raise ConversionFailed(f"Gotenberg refuses the file with status {answer.status_code}: {said}")
        size_bytes = 0
        with target.open("wb") as file:
            async for chunk in answer.aiter_bytes():
                size_bytes += len(chunk)
                if size_bytes > self._max_bytes:
                    raise ConversionFailed(
                        f"the PDF has more than the {self._max_bytes} bytes that PAGEMILL_CONVERSION_MAX_BYTES allows"
                    )
                await asyncio.to_thread(file.write, chunk)
