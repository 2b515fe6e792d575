"""Page images in several widths. Smaller ones are made in confined children and kept in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from typing import Final

from ingestion.errors import BadRequest, Overloaded, WorkerFault
from ingestion.model import PageRecord
from ingestion.ports import BlobStore
from ingestion.sandbox.failures import ChildCrashed, ChildTimeout
from ingestion.sandbox.pool import Sandbox
from ingestion.search.frequency_cache import FrequencyCache
from ingestion.viewing.image_child import smaller_image

WIDTHS_PX: Final = (160, 320, 640, 960, 1280, 1600)
"""The widths that images are made in. A request for another width is refused, so that a caller cannot make a
process compute thousands of images of one page."""
_CACHE_BYTES: Final = 64 * 1024**2
_CHILDREN: Final = 2
_CHILD_BYTES: Final = 512 * 1024**2
_CPU_S: Final = 10.0
_ANSWER_BYTES: Final = 16 * 1024**2
_MOST_WAITING: Final = 64
_RETRY_S: Final = 1
_MEDIA_TYPES: Final = {"webp": "image/webp", "png": "image/png", "jpeg": "image/jpeg"}


@dataclass(frozen=True, slots=True)
class PageImage:
    """An encoded image."""

    data: bytes
    media_type: str


_Key = tuple[int, int]
Resize = Callable[[bytes, int], Awaitable[bytes]]


class PageImages:
    """Safe to use from many tasks at once. Callers that want the same image share its computation."""

    def __init__(self, blobs: BlobStore, resize: Resize | None = None) -> None:
        """`resize`: as `smaller_image`. By default children of this process run that."""
        self._blobs = blobs
        self._sandbox = Sandbox(processes=_CHILDREN, memory_bytes=_CHILD_BYTES, log_protections=False)
        self._resize = resize or self._in_child
        self._cache = FrequencyCache[_Key, PageImage](_CACHE_BYTES, lambda image: len(image.data))
        self._running: dict[_Key, asyncio.Task[PageImage]] = {}

    def close(self) -> None:
        """End the children. A later call starts them again."""
        self._sandbox.close()

    async def image(self, page: PageRecord, width_px: int | None) -> PageImage:
        """The page's image, `width_px` wide; the stored image where that is None or not smaller than the stored one.

        Raises BadRequest for a width that is not one of WIDTHS_PX, NotFound, Overloaded where too many images are
        being made, DependencyUnavailable, ChildStalled, WorkerFault where the stored image cannot be read.
        """
        if width_px is None:
            return await self._stored(page)
        check_width(width_px)
        key = (page.page_key, width_px)
        if (kept := self._cache.get(key)) is not None:
            return kept
        if (running := self._running.get(key)) is None:
            if len(self._running) >= _MOST_WAITING:
                raise Overloaded("the maker of page images", _RETRY_S)
            # A context of its own: a shared computation has the time budget of none of its callers.
            running = asyncio.create_task(self._made(key, page, width_px), context=Context())
            self._running[key] = running
            running.add_done_callback(partial(self._ended, key))
        return await asyncio.shield(running)

    def _ended(self, key: _Key, made: asyncio.Task[PageImage]) -> None:
        del self._running[key]
        if not made.cancelled():
            made.exception()  # its callers may have left

    async def _stored(self, page: PageRecord) -> PageImage:
        extension = page.image_key.rpartition(".")[2]
        media_type = _MEDIA_TYPES.get(extension, "application/octet-stream")
        return PageImage(await self._blobs.get(page.image_key), media_type)

    async def _made(self, key: _Key, page: PageRecord, width_px: int) -> PageImage:
        stored = await self._stored(page)
        smaller = await self._resize(stored.data, width_px)
        made = PageImage(smaller, "image/webp") if smaller else stored
        self._cache.put(key, made)
        return made

    async def _in_child(self, image: bytes, width_px: int) -> bytes:
        try:
            return await self._sandbox.run(
                smaller_image, image, width_px, timeout_s=_CPU_S, answer_bytes=_ANSWER_BYTES, keep=False
            )
        except (ChildCrashed, ChildTimeout) as error:
            raise WorkerFault(f"the image of a page cannot be read: {error}") from error


def check_width(width_px: int) -> int:
    """Return `width_px`. Raises BadRequest where images are not made in that width."""
    if width_px not in WIDTHS_PX:
        raise BadRequest(f"width is {width_px}; page images are {', '.join(map(str, WIDTHS_PX))} pixels wide")
    return width_px
