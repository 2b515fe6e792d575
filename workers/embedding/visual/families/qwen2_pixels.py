"""Preprocess the pixels of a page like the published image processor of Qwen2-VL, faster.

(height, width, 3) uint8 --CPU: bicubic--> (rows * 28, columns * 28, 3) uint8
                   --device: normalise, cut--> (patches, 1176) float, patch by patch in the order of 2 x 2 merges
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from workers.embedding.visual.images import Normaliser, resize_image

_MAX_ASPECT: Final = 200
"""Qwen2-VL's `smart_resize` raises above this ratio. A longer page is squeezed to it."""


class ImageSizing:
    """Size and resizing of a page, with the patch and merge sizes of the published image processor."""

    def __init__(self, image_processor: Any, max_tokens: int) -> None:
        self._patch_px: int = image_processor.patch_size
        self._merge: int = image_processor.merge_size
        self._token_px = self._patch_px * self._merge
        self._resample: int = image_processor.resample
        self._min_px: int = image_processor.size["shortest_edge"]
        self._max_px = max_tokens * self._token_px**2

    def size(self, height_px: int, width_px: int) -> tuple[int, int]:
        """Height and width of a page in the model."""
        least_px = -(-max(height_px, width_px) // _MAX_ASPECT)
        size: tuple[int, int] = smart_resize(
            max(height_px, least_px), max(width_px, least_px), self._token_px, self._min_px, self._max_px
        )
        return size

    def resize(self, pixels: NDArray[np.uint8]) -> Tensor:
        """(height, width, 3) uint8 -> (rows * 28, columns * 28, 3) uint8."""
        return resize_image(pixels, self.size(*pixels.shape[:2]), self._resample)

    def grid(self, image: Tensor) -> tuple[int, int, int]:
        """Patches of a resized image, (height, width, 3), in time, height and width."""
        return 1, image.shape[0] // self._patch_px, image.shape[1] // self._patch_px

    def image_tokens(self, grid: tuple[int, int, int]) -> int:
        return grid[1] * grid[2] // self._merge**2


class PatchCutter:
    """The part of the image processor that runs on the device: bytes to normalised patches."""

    def __init__(self, image_processor: Any, device: torch.device) -> None:
        self._patch_px: int = image_processor.patch_size
        self._merge: int = image_processor.merge_size
        self._frames: int = image_processor.temporal_patch_size
        self._normaliser = Normaliser(image_processor, device)

    def cut(self, image: Tensor) -> Tensor:
        """(height, width, 3) uint8 on the device -> (patches, 3 * frames * patch * patch) float32."""
        merge, patch_px = self._merge, self._patch_px
        rows, columns = (side // (merge * patch_px) for side in image.shape[:2])
        blocks = image.view(rows, merge, patch_px, columns, merge, patch_px, 3)
        patches = blocks.permute(0, 3, 1, 4, 6, 2, 5)  # (rows, columns, merge, merge, 3, patch, patch)
        normal = self._normaliser.normalise(patches)
        # A still image is a video of equal frames.
        video = normal.unsqueeze(5).expand(*normal.shape[:5], self._frames, patch_px, patch_px)
        return video.reshape(rows * columns * merge**2, -1)
