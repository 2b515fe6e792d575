"""NeoMME: one bidirectional encoder for text and for raw patches of 32 pixels, without a vision tower.

Traps, each with a test:

- The published processor needs torchvision. Pagemill reads its settings and computes the same numbers without it.
- Without `position_ids` the network numbers patches like text: a patch stands at its row and column, counted from 2.
- Every row of patches ends in a marker, which gets a vector too; the first image token is a marker and no patch.
- Pages are padded at right and bottom with black to whole patches, after resizing.
- A checkpoint may set no limit of size. Pages are scaled until their tokens fit the rows that a page may have.
- The prompt of queries is the checkpoint's chat template: a query marker before, mask tokens after.
- It is scored by MeanMaxSim: MaxSim divided by the query's tokens, which ranks the pages of a query the same.
- Not quantised: the head, whose 4-bit weights raise "Got Byte" in the forward; the patch embedding, through which
  every number of a page passes; and the small projection behind the vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jinja2 import TemplateError
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoTokenizer, NeoMMEForRetrieval
from transformers.image_processing_base import ImageProcessingMixin

from ingestion.errors import ModelNotFound
from ingestion.model import ROWS_PER_PAGE, Page
from workers.embedding.visual.family import Family, FamilyOptions, ModelInput, padded_ids, to_device
from workers.embedding.visual.images import Normaliser, resize_image
from workers.embedding.visual.texts import QueryEncoder

_BEFORE_PATCHES: Final = 2
"""Tokens of a page before its patches: the markers of a document and of an image."""
_QUERY: Final = "QUERY"
_SHRINK: Final = 0.99


@dataclass(frozen=True, slots=True)
class _ImageSettings:
    """What the checkpoint says of its image processor; the defaults are those of transformers."""

    patch_size: int = 32
    max_side: int | None = None
    size: Mapping[str, int] | None = None
    resample: int = 2
    rescale_factor: float = 1 / 255
    image_mean: Sequence[float] = (0.5, 0.5, 0.5)
    image_std: Sequence[float] = (0.5, 0.5, 0.5)

    @classmethod
    def read(cls, folder: Path) -> _ImageSettings:
        """Raises OSError if the checkpoint has none."""
        found, _ = ImageProcessingMixin.get_image_processor_dict(str(folder), local_files_only=True)
        return cls(**{name: found[name] for name in cls.__slots__ if found.get(name) is not None})


@dataclass(frozen=True, slots=True)
class _Processor:
    tokenizer: Any
    images: _ImageSettings


class _Grid:
    """Sizes and patches of pages."""

    def __init__(self, settings: _ImageSettings, most_tokens: int) -> None:
        """`most_tokens`: of the patches of a page and the markers of their rows."""
        self._settings = settings
        self._most_tokens = most_tokens

    def size(self, height_px: int, width_px: int) -> tuple[int, int]:
        published = size = self._published_size(height_px, width_px)
        scale = 1.0
        while self._tokens(size) > self._most_tokens:
            scale *= _SHRINK
            size = max(1, int(published[0] * scale)), max(1, int(published[1] * scale))
        return size

    def resize(self, pixels: NDArray[np.uint8]) -> Tensor:
        return resize_image(pixels, self.size(*pixels.shape[:2]), self._settings.resample)

    def padded(self, image: Tensor) -> tuple[Tensor, int, int]:
        """(height, width, 3) at `size` -> the same padded with black, and its rows and columns of patches."""
        height_px, width_px = image.shape[:2]
        rows, columns = self.patches((height_px, width_px))
        side_px = self._settings.patch_size
        right, bottom = columns * side_px - width_px, rows * side_px - height_px
        return functional.pad(image, (0, 0, 0, right, 0, bottom)), rows, columns

    def patches(self, size_px: tuple[int, int]) -> tuple[int, int]:
        side_px = self._settings.patch_size
        return -(-size_px[0] // side_px), -(-size_px[1] // side_px)

    def _tokens(self, size_px: tuple[int, int]) -> int:
        rows, columns = self.patches(size_px)
        return rows * (columns + 1)

    def _published_size(self, height_px: int, width_px: int) -> tuple[int, int]:
        """As `get_resize_output_size` of the published image processor, whose module needs torchvision."""
        limits = self._settings.size or {}
        least_px, most_px, max_side = limits.get("min_pixels"), limits.get("max_pixels"), self._settings.max_side
        area_px = height_px * width_px
        scale = (least_px / area_px) ** 0.5 if least_px is not None and area_px < least_px else 1.0
        if max_side is not None:
            scale = min(scale, max_side / max(height_px, width_px))
        if most_px is not None:
            scale = min(scale, (most_px / area_px) ** 0.5)
        if scale == 1.0:
            return height_px, width_px

        def is_over(height: int, width: int) -> bool:
            over_side = max_side is not None and max(height, width) > max_side
            return over_side or (most_px is not None and height * width > most_px)

        height, width = max(1, round(height_px * scale)), max(1, round(width_px * scale))
        if is_over(height, width):
            return self._floored(height_px * scale, width_px * scale, most_px)
        if least_px is not None and area_px < least_px and height * width < least_px:
            ceiled = max(1, -int(-height_px * scale // 1)), max(1, -int(-width_px * scale // 1))
            return (height, width) if is_over(*ceiled) else ceiled
        return height, width

    @staticmethod
    def _floored(height: float, width: float, most_px: int | None) -> tuple[int, int]:
        rows, columns = max(1, int(height)), max(1, int(width))
        if most_px is None or rows * columns <= most_px:
            return rows, columns
        return (max(1, most_px // columns), columns) if rows >= columns else (rows, max(1, most_px // rows))


class NeoMME(Family):
    """A page's `image` is (height, width, 3) uint8, padded, and its `grid` the rows and columns of patches.

    `positions` are (2, tokens): row and column.
    """

    name = "neomme"
    title = "NeoMME"
    checkpoint = "Hcompany/NeoMME-260M-Retriever"
    network_class = NeoMMEForRetrieval
    not_quantised = ("multi_vector_head", "model.patch_embeddings", "model.embed_tokens")
    nf4_bytes_per_parameter = 1.0
    positions_at = "model.rotary_emb"

    @classmethod
    def read_processor(cls, folder: Path) -> Any:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        return _Processor(tokenizer, _ImageSettings.read(folder))

    @classmethod
    def prompts(cls, processor: Any) -> str:
        return "\n".join(_query_prompt(processor.tokenizer))

    def __init__(self, network: Any, processor: Any, options: FamilyOptions) -> None:
        tokenizer = processor.tokenizer
        self.dim = network.config.embedding_dim
        self.sizing: _Grid = _Grid(processor.images, self.token_cap(options.max_tokens))
        self._network = network
        self._options = options
        self._pad_token: int = tokenizer.pad_token_id
        self._image_token: int = tokenizer.image_token_id
        self._row_token: int = tokenizer.row_token_id
        self._before_patches = [tokenizer.document_token_id, self._image_token]
        before, after = _query_prompt(tokenizer)
        self._queries = QueryEncoder(tokenizer, before=before, after=after)
        self._patch_px: int = processor.images.patch_size
        self._normaliser = Normaliser(processor.images, network.device)

    def token_cap(self, max_tokens: int) -> int:
        return min(max_tokens or ROWS_PER_PAGE, ROWS_PER_PAGE - _BEFORE_PATCHES)

    def prepare(self, item: Page | str) -> ModelInput:
        if isinstance(item, str):
            ids = torch.tensor(self._queries.encode(item))
            return ModelInput(ids, slice(0, len(ids)), torch.arange(len(ids)).expand(2, -1))
        image, rows, columns = self.sizing.padded(self.sizing.resize(self.pixels_of(item)))
        row = [*[self._image_token] * columns, self._row_token]
        ids = torch.tensor([*self._before_patches, *row * rows])
        is_patch = ids == self._image_token
        is_patch[:_BEFORE_PATCHES] = False
        kept = slice(0, len(ids)) if self._options.keep_prompt else is_patch.nonzero()[:, 0]
        image = image.pin_memory() if self._options.is_pinned else image
        return ModelInput(ids, kept, _page_positions(rows, columns), image, (rows, columns))

    def forward(self, batch: Sequence[ModelInput]) -> Tensor:
        device = self._network.device
        inputs = padded_ids(batch, self._pad_token)
        positions = [item.positions.T for item in batch if item.positions is not None]
        inputs["position_ids"] = pad_sequence(positions, batch_first=True).permute(2, 0, 1)  # (2, batch, tokens)
        inputs = to_device(inputs, device)
        images = [item.image.to(device, non_blocking=True) for item in batch if item.image is not None]
        if images:
            inputs["pixel_values"] = torch.cat([self._patches(image) for image in images])
        embeddings: Tensor = self._network(**inputs, output_dense=False).embeddings
        return embeddings

    def seen_positions(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor | None:
        positions: Tensor = args[1]  # (2, batch, tokens)
        return positions[:, 0]

    def expected_positions(self, item: ModelInput) -> tuple[int, Tensor]:
        """Rows and columns count from 2; the marker at the end of a row is its last column."""
        rows, columns = item.grid
        at = torch.arange(rows * (columns + 1))
        return _BEFORE_PATCHES, _BEFORE_PATCHES + torch.stack([at // (columns + 1), at % (columns + 1)])

    def _patches(self, image: Tensor) -> Tensor:
        """(height, width, 3) uint8 -> (patches, side * side * 3) float32, pixel by pixel."""
        side = self._patch_px
        normal = self._normaliser.normalise(image.permute(2, 0, 1))
        blocks = normal.unfold(1, side, side).unfold(2, side, side)  # (3, rows, columns, side, side)
        return blocks.permute(1, 2, 3, 4, 0).reshape(-1, side * side * 3)


def _page_positions(rows: int, columns: int) -> Tensor:
    before = torch.arange(_BEFORE_PATCHES).expand(2, -1)
    row = torch.arange(rows).repeat_interleave(columns + 1)
    column = torch.arange(columns + 1).repeat(rows)
    return torch.cat([before, _BEFORE_PATCHES + torch.stack([row, column])], dim=1)


def _query_prompt(tokenizer: Any) -> tuple[str, str]:
    """What the chat template puts before and after a query. Raises ModelNotFound where it cannot be told."""
    messages = [{"role": "user", "content": _QUERY}]
    try:
        rendered: str = tokenizer.apply_chat_template(messages, task="query", tokenize=False)
    except (TemplateError, ValueError) as error:
        raise ModelNotFound(f"this NeoMME checkpoint has no chat template for queries: {error}") from error
    if rendered.count(_QUERY) != 1:
        raise ModelNotFound(f"the chat template of this checkpoint does not take a query as it is: {rendered!r}")
    before, _, after = rendered.partition(_QUERY)
    return before, after
