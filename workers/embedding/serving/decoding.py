"""Decode images into pages for the model, with a limit on the decoded pixels in memory.

A group of images waits until the limit allows all of it, then is decoded one image after the other. If the model
resizes images, each is resized right after its decoding, so a group holds one full-size image and the resized others.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ingestion.model import Page
from ingestion.ports import Embedder
from workers.embedding.serving.images import ImageFile

_GROUP_IMAGES: Final = 8
_MAX_IMAGES: Final = 3
"""The limit in images of the largest accepted size."""


@runtime_checkable
class ResizingEmbedder(Protocol):
    """An Embedder that resizes images before it reads them."""

    def fitted_px(self, width_px: int, height_px: int) -> tuple[int, int]:
        """Width and height after resizing."""

    def fit(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize (height, width, 3) uint8 to `fitted_px`, with the same vectors. Blocks; safe in several threads."""


class PixelLimiter:
    """Limits the decoded pixels in memory. Serves waiting callers in FIFO order."""

    def __init__(self, limit_px: int) -> None:
        self._limit_px = limit_px
        self._waiting = deque[tuple[int, asyncio.Future[None]]]()
        self.in_use_px = 0

    @asynccontextmanager
    async def hold(self, px: int) -> AsyncIterator[HeldPixels]:
        """Wait for `px` pixels, at most the whole limit, and hold them for the block."""
        held = HeldPixels(self, min(px, self._limit_px))
        await self._take(held.px)
        try:
            yield held
        finally:
            held.shrink_to(0)

    def release(self, px: int) -> None:
        self.in_use_px -= px
        while self._waiting and self.in_use_px + self._waiting[0][0] <= self._limit_px:
            wanted_px, turn = self._waiting.popleft()
            if not turn.cancelled():
                self.in_use_px += wanted_px
                turn.set_result(None)

    async def _take(self, px: int) -> None:
        if not self._waiting and self.in_use_px + px <= self._limit_px:
            self.in_use_px += px
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((px, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._waiting = deque(other for other in self._waiting if other[1] is not turn)
                px = 0
            self.release(px)  # also wakes callers that waited behind this one
            raise


class HeldPixels:
    """Pixels that are held. Made by `PixelLimiter.hold`."""

    def __init__(self, limiter: PixelLimiter, px: int) -> None:
        self._limiter = limiter
        self.px = px

    def shrink_to(self, px: int) -> None:
        """Release the pixels above `px`."""
        if px < self.px:
            self._limiter.release(self.px - px)
            self.px = px


class Decoder:
    """Decodes images for all callers of a process."""

    def __init__(self, embedder: Embedder, max_image_px: int) -> None:
        self._resizer = embedder if isinstance(embedder, ResizingEmbedder) else None
        self.limiter = PixelLimiter(_MAX_IMAGES * max_image_px)
        self._max_group_px = max_image_px + (_GROUP_IMAGES * max_image_px // 4 if self._resizer else 0)

    def groups(self, images: Sequence[ImageFile]) -> Iterator[Sequence[ImageFile]]:
        """Split into consecutive non-empty groups, each decoded and embedded together."""
        start = 0
        for end in range(1, len(images) + 1):
            is_full = end - start >= _GROUP_IMAGES
            if end == len(images) or is_full or self._cost_px(images[start : end + 1]) > self._max_group_px:
                yield images[start:end]
                start = end

    @asynccontextmanager
    async def decoded(self, group: Sequence[ImageFile]) -> AsyncIterator[list[Page]]:
        """The pages of a group, in memory for the block. Waits for the limiter. Raises ServiceError if damaged."""
        async with self.limiter.hold(self._cost_px(group)) as held:
            pages = await asyncio.to_thread(self._decode, group)
            held.shrink_to(sum(page.pixels.size // 3 for page in pages if page.pixels is not None))
            yield pages

    def _cost_px(self, group: Sequence[ImageFile]) -> int:
        """Most pixels in memory at a time while a group is decoded."""
        if self._resizer is None:
            return sum(image.px for image in group)
        fitted = (self._resizer.fitted_px(image.width_px, image.height_px) for image in group)
        return max(image.px for image in group) + sum(width_px * height_px for width_px, height_px in fitted)

    def _decode(self, group: Sequence[ImageFile]) -> list[Page]:
        return [Page(1, image.width_px, image.height_px, b"", "", self._pixels(image)) for image in group]

    def _pixels(self, image: ImageFile) -> NDArray[np.uint8]:
        if self._resizer is None:
            return image.pixels()
        return self._resizer.fit(image.pixels(self._resizer.fitted_px(image.width_px, image.height_px)))
