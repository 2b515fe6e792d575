"""What differs between families of visual models: how a page or a query enters the network, and what leaves it.

Everything else (batches, memory, pooling, self-test, fingerprint, calibration) is common and uses this interface.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from ingestion.errors import BadRequest
from ingestion.model import Page


@dataclass(frozen=True, slots=True, eq=False)
class ModelInput:
    """One prepared page or query.

    `token_ids`: (tokens,) int64. `kept`: the output rows that become vectors, a slice or (rows,) int64. `positions`:
    (axes, tokens) int64, where the family does not count tokens one by one. For a page also `image`, uint8, and
    `grid`, the numbers of its patches or tiles; the family says what shapes they have.
    """

    token_ids: Tensor
    kept: slice | Tensor
    positions: Tensor | None = None
    image: Tensor | None = None
    grid: tuple[int, ...] = ()

    @property
    def cost(self) -> int:
        return len(self.token_ids)


@dataclass(frozen=True, slots=True)
class FamilyOptions:
    """`max_tokens`: most image tokens of a page; 0: as published. `keep_prompt`: tokens of the prompt around the image
    give vectors too, as published. `is_pinned`: put images into pinned memory, which a GPU copies asynchronously."""

    max_tokens: int = 0
    keep_prompt: bool = True
    is_pinned: bool = False


class Sizing(Protocol):
    """The size of a page in the model. Stateless: threads may share it."""

    def size(self, height_px: int, width_px: int) -> tuple[int, int]:
        """Height and width to which `resize` brings a page."""
        ...

    def resize(self, pixels: NDArray[np.uint8]) -> Tensor:
        """(height, width, 3) uint8 -> the same at `size`, in memory of its own."""
        ...


def fitted_size(sizing: Sizing, height_px: int, width_px: int) -> tuple[int, int]:
    """Height and width to which a page may be resized before `resize`, without a change to the model's input.

    That is `size` where `size` is idempotent, else the page keeps its size.
    """
    size = sizing.size(height_px, width_px)
    return size if sizing.size(*size) == size else (height_px, width_px)


class Family(ABC):
    """One family around its network. `prepare` may run in several threads; `forward` runs in one."""

    name: ClassVar[str]
    """`model_type` of its checkpoints, and the start of its fingerprints."""
    title: ClassVar[str]
    checkpoint: ClassVar[str]
    """A published checkpoint, for error messages."""
    network_class: ClassVar[Any]
    not_quantised: ClassVar[tuple[str, ...]]
    """Modules that NF4 leaves in 16 bits. The family's file gives the reasons."""
    nf4_bytes_per_parameter: ClassVar[float]
    """On average: half a byte and scales for quantised weights, 2 bytes for the others."""

    dim: int
    sizing: Sizing

    @classmethod
    @abstractmethod
    def read_processor(cls, folder: Path) -> Any:
        """Returns what `__init__` takes as `processor`. Raises the errors of transformers."""

    @classmethod
    @abstractmethod
    def prompts(cls, processor: Any) -> str:
        """The prompts around images and queries, for the fingerprint."""

    @abstractmethod
    def token_cap(self, max_tokens: int) -> int:
        """Returns the most image tokens of a page, for PAGEMILL_VISUAL_MAX_TOKENS or 0. The fingerprint names it."""

    @abstractmethod
    def __init__(self, network: Any, processor: Any, options: FamilyOptions) -> None: ...

    @abstractmethod
    def prepare(self, item: Page | str) -> ModelInput:
        """Tokens and resized image of a page or a query, on the CPU. Raises BadRequest for a page without pixels."""

    @abstractmethod
    def forward(self, batch: Sequence[ModelInput]) -> Tensor:
        """Returns (batch, tokens, dim) on the device, padding included. Raises the errors of torch."""

    def pixels_of(self, page: Page) -> NDArray[np.uint8]:
        """Raises BadRequest for a page without pixels."""
        if page.pixels is None:
            raise BadRequest(f"page {page.page_number} has no pixels, and {self.title} embeds nothing else")
        return page.pixels

    def finish(self, raw: Tensor, batch: Sequence[ModelInput]) -> list[Tensor]:
        """(batch, tokens, dim) float32 -> (rows, dim) for each item, rows of unit length.

        The rows are normalised again: in BF16 the lengths are 1 to three digits only.
        """
        return [
            functional.normalize(embeddings[item.kept], dim=-1) for item, embeddings in zip(batch, raw, strict=True)
        ]

    positions_at: ClassVar[str] = ""
    """The module that receives positions in a forward; empty where the network makes them inside."""

    def seen_positions(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor | None:
        """Positions of the first item, (axes, tokens), from the arguments of the module at `positions_at`."""
        raise NotImplementedError

    def expected_positions(self, item: ModelInput) -> tuple[int, Tensor]:
        """The first image token of a page, and (axes, image tokens) positions, computed from its grid alone."""
        raise NotImplementedError


def padded_ids(batch: Sequence[ModelInput], pad_token: int) -> dict[str, Tensor]:
    """`input_ids` and `attention_mask`, (batch, tokens) int64, on the CPU.

    Padding is on the right: causal attention never reads it. The mask comes from the lengths, not from the padding
    token, because prompts contain that token.
    """
    ids = pad_sequence([item.token_ids for item in batch], batch_first=True, padding_value=pad_token)
    lengths = torch.tensor([item.cost for item in batch])
    return {"input_ids": ids, "attention_mask": (torch.arange(ids.shape[1]) < lengths[:, None]).long()}


def to_device(inputs: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: tensor.to(device, non_blocking=True) for name, tensor in inputs.items()}
