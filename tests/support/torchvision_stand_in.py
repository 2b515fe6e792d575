"""The few functions of torchvision that published image processors of transformers call, by the same calls of torch.

torchvision's wheel on PyPI is built for CUDA and does not load beside torch's CPU build, which the tests use. With it
installed (0.28.0, its operators declared by hand), NeoMME's image processor gave the same bits as with this stand-in.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from types import ModuleType
from typing import Any, Final
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn import functional
from transformers import image_processing_backends

_IS_INSTALLED: Final = importlib.util.find_spec("torchvision") is not None


class InterpolationMode(Enum):
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    LANCZOS = "lanczos"


def resize(image: Tensor, size: Sequence[int], interpolation: InterpolationMode, antialias: bool) -> Tensor:
    batch = image if image.ndim == 4 else image[None]
    resized = functional.interpolate(batch, tuple(size), mode=interpolation.value, antialias=antialias)
    return resized.reshape(*image.shape[:-2], *size)


def pad(image: Tensor, padding: Sequence[int], fill: int = 0, padding_mode: str = "constant") -> Tensor:
    left, top, right, bottom = padding
    return functional.pad(image, (left, right, top, bottom), mode=padding_mode, value=fill)


def normalize(image: Tensor, mean: Any, std: Any, inplace: bool = False) -> Tensor:
    mean, std = (torch.as_tensor(value, dtype=image.dtype).view(-1, 1, 1) for value in (mean, std))
    return image.sub_(mean).div_(std) if inplace else image.sub(mean).div_(std)


def grayscale_to_rgb(image: Tensor) -> Tensor:
    return image.expand(3, -1, -1) if image.shape[-3] == 1 else image


@contextmanager
def torchvision_stand_in() -> Iterator[None]:
    """In the block transformers finds the stand-in, unless torchvision is installed."""
    if _IS_INSTALLED:
        yield
        return
    v2 = ModuleType("torchvision.transforms.v2")
    vars(v2)["functional"] = sys.modules[__name__]
    names = {"torchvision.transforms.v2": v2, "torchvision": v2, "torchvision.transforms": v2}
    modes = {2: InterpolationMode.BILINEAR, 3: InterpolationMode.BICUBIC, 1: InterpolationMode.LANCZOS}
    with (
        patch.dict(sys.modules, names),
        patch.multiple(
            image_processing_backends,
            create=True,
            tvF=sys.modules[__name__],
            pil_torch_interpolation_mapping=modes,
        ),
    ):
        yield
