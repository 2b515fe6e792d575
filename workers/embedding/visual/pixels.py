"""The pixels of a page on their way into ColQwen2, as its published image processor has them, at less cost.

A page stays uint8 until it is next to the model: the CPU resizes it and the device does the rest.

    (height, width, 3) uint8 --CPU: bicubic--> (rows * 28, columns * 28, 3) uint8
                       --device: normalise, cut--> (patches, 1176) float, patch by patch in the order of 2 x 2 merges
"""

from __future__ import annotations

import warnings
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

# Pages come read-only from the renderer, and torch, which warns of that, only reads them.
warnings.filterwarnings("ignore", message="The given NumPy array is not writable", category=UserWarning)

_MAX_ASPECT: Final = 200
"""Beyond it Qwen2-VL defines no size. A more extreme page is squeezed to it, rather than lost."""


class ImageSizing:
    """How large a page becomes, and how it gets there: size, patch and merge of the published image processor."""

    def __init__(self, image_processor: Any, max_tokens: int) -> None:
        self._patch_px: int = image_processor.patch_size
        self._merge: int = image_processor.merge_size
        self._token_px = self._patch_px * self._merge
        self._min_px: int = image_processor.size["shortest_edge"]
        self._max_px = max_tokens * self._token_px**2

    def size(self, height_px: int, width_px: int) -> tuple[int, int]:
        """Height and width that the model sees of a page."""
        least_px = -(-max(height_px, width_px) // _MAX_ASPECT)
        size: tuple[int, int] = smart_resize(
            max(height_px, least_px), max(width_px, least_px), self._token_px, self._min_px, self._max_px
        )
        return size

    def fitted_size(self, height_px: int, width_px: int) -> tuple[int, int]:
        """Height and width to which a page can be brought before `resize` without changing what the model sees.

        That is `size`, except that of a very long strip `size` would make another one again: it stays as it is.
        """
        size = self.size(height_px, width_px)
        return size if self.size(*size) == size else (height_px, width_px)

    def resize(self, pixels: NDArray[np.uint8]) -> Tensor:
        """(height, width, 3) uint8 -> uint8 of the size that the model sees: equal to the published processor on
        torchvision, within 2 of 255 of the one on Pillow."""
        size = self.size(*pixels.shape[:2])
        whole = torch.from_numpy(np.ascontiguousarray(pixels))
        if size == pixels.shape[:2]:
            return whole.clone()
        # The channels stay last in memory, where torch has vector instructions for bytes.
        resized = functional.interpolate(whole.permute(2, 0, 1)[None], size, mode="bicubic", antialias=True)
        return resized[0].permute(1, 2, 0).contiguous()

    def grid(self, image: Tensor) -> tuple[int, int, int]:
        """Patches of a resized image in time, height and width."""
        return 1, image.shape[0] // self._patch_px, image.shape[1] // self._patch_px

    def image_tokens(self, grid: tuple[int, int, int]) -> int:
        return grid[1] * grid[2] // self._merge**2


class PatchCutter:
    """The part of the image processor that runs next to the model: bytes to normalised patches."""

    def __init__(self, image_processor: Any, device: torch.device) -> None:
        self._patch_px: int = image_processor.patch_size
        self._merge: int = image_processor.merge_size
        self._frames: int = image_processor.temporal_patch_size
        # Scaling to 0..1 is folded into mean and deviation, in this order so that not one bit differs.
        scale = 1.0 / image_processor.rescale_factor
        self._mean = (torch.tensor(image_processor.image_mean) * scale).view(3, 1, 1).to(device)
        self._std = (torch.tensor(image_processor.image_std) * scale).view(3, 1, 1).to(device)

    def cut(self, image: Tensor) -> Tensor:
        """(height, width, 3) uint8 on the device -> (patches, 3 * frames * patch * patch) float32."""
        merge, patch_px = self._merge, self._patch_px
        rows, columns = (side // (merge * patch_px) for side in image.shape[:2])
        blocks = image.view(rows, merge, patch_px, columns, merge, patch_px, 3)
        patches = blocks.permute(0, 3, 1, 4, 6, 2, 5)  # (rows, columns, merge, merge, 3, patch, patch)
        normal = patches.float().sub_(self._mean).div_(self._std)
        # A still image is a film of equal frames.
        film = normal.unsqueeze(5).expand(*normal.shape[:5], self._frames, patch_px, patch_px)
        return film.reshape(rows * columns * merge**2, -1)
