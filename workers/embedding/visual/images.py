"""Resizing and normalising of images, as the published image processors do it.

A page stays uint8 until it is on the device: the CPU resizes it, the device normalises it.
"""

from __future__ import annotations

import warnings
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

# torch warns of the read-only pages of the renderer; it only reads them here.
warnings.filterwarnings("ignore", message="The given NumPy array is not writable", category=UserWarning)

_MODES: Final = {2: "bilinear", 3: "bicubic"}
"""Of Pillow's numbers of filters, which image processors name, in torch's words."""


def resize_image(pixels: NDArray[np.uint8], size: tuple[int, int], resample: int) -> Tensor:
    """(height, width, 3) uint8 -> (*size, 3) uint8 in memory of its own. Raises KeyError for an unknown `resample`.

    Equal to the published processors on torchvision; within 2 of 255 of those on Pillow.
    """
    whole = torch.from_numpy(np.ascontiguousarray(pixels))
    if size == pixels.shape[:2]:
        return whole.clone()
    # Channels stay last in memory: torch has vector instructions for bytes in that layout.
    channels_first = whole.permute(2, 0, 1)[None]
    resized = functional.interpolate(channels_first, size, mode=_MODES[resample], antialias=True)
    return resized[0].permute(1, 2, 0).contiguous()


class Normaliser:
    """Bytes to numbers of mean 0 and deviation 1, with the constants of the published image processor."""

    def __init__(self, image_processor: Any, device: torch.device) -> None:
        # Scaling to 0..1 is folded into mean and deviation, in the order that keeps the result bit-identical.
        scale = 1.0 / image_processor.rescale_factor
        self._mean = (torch.tensor(image_processor.image_mean) * scale).view(3, 1, 1).to(device)
        self._std = (torch.tensor(image_processor.image_std) * scale).view(3, 1, 1).to(device)

    def normalise(self, images: Tensor) -> Tensor:
        """(..., 3, height, width) uint8 -> the same in float32."""
        return images.float().sub_(self._mean).div_(self._std)
