"""ColModernVBert: a SigLIP tower, a small bidirectional encoder (ModernBERT), a projection. Pages are cut into tiles.

Traps, each with a test:

- The published image processor resizes by Lanczos on Pillow; on torchvision before 0.27 it takes bicubic instead, with
  other vectors. Pagemill uses the one on Pillow everywhere.
- A page is resized twice, to the longest edge and to whole tiles; the whole page follows its tiles as one tile more.
- In the prompt two line breaks before the whole page may be one token: the prompt is tokenised as a whole.
- The tokenizer adds [CLS] and [SEP], which get vectors too.
- The network drops tiles that are zero after normalisation: it takes them for padding. The tiles of a batch are given
  as one list without padding; a tile of bytes is never zero, because the mean 0.5 is between two bytes.
- Not quantised: the projection, whose 4-bit weights raise "Got Byte" in the forward; the vision tower and the
  connector behind it, through which every number of a page passes. Together they are nearly half of a network of 250
  million parameters: NF4 saves little here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import ColModernVBertForRetrieval, ColModernVBertProcessor
from transformers.image_utils import SizeDict
from transformers.models.idefics3.image_processing_pil_idefics3 import (
    Idefics3ImageProcessorPil,
    get_resize_output_image_size,
)

from ingestion.model import ROWS_PER_PAGE, Page
from workers.embedding.visual.family import Family, FamilyOptions, ModelInput, padded_ids, to_device
from workers.embedding.visual.images import Normaliser
from workers.embedding.visual.texts import AUGMENTATION_TOKENS, QueryEncoder

_MOST_TILES_A_SIDE: Final = 6
"""The prompt has words for the places of so many rows and columns."""

_MARKERS_OF_TILE: Final = 3
"""Tokens beside those of a tile: its border, its place, and the line break of its row."""
_PROMPT_ROWS: Final = 64
"""More than the tokens of the prompt around the tiles."""


class _Tiling:
    """Sizes and tiles of the published image processor."""

    def __init__(self, image_processor: Any, most_tiles: int) -> None:
        """`most_tiles`: of a page, the whole page as a tile included."""
        self._processor = image_processor
        self._tile_px: int = image_processor.max_image_size["longest_edge"]
        published = image_processor.size["longest_edge"] // self._tile_px
        side = min(published, max(1, math.isqrt(max(0, most_tiles - 1))), _MOST_TILES_A_SIDE)
        self._longest_px: int = image_processor.size["longest_edge"] if side == published else side * self._tile_px
        self.most_tiles = side * side + 1 if side > 1 else 1

    def size(self, height_px: int, width_px: int) -> tuple[int, int]:
        height_px, width_px = self._scaled(height_px, width_px)
        return self._whole_tiles(height_px, width_px)

    def resize(self, pixels: NDArray[np.uint8]) -> Tensor:
        resize, resample = self._processor.resize, self._processor.resample
        image = np.ascontiguousarray(pixels.transpose(2, 0, 1))
        for size in (self._scaled(*pixels.shape[:2]), self.size(*pixels.shape[:2])):
            image = resize(image, SizeDict(height=size[0], width=size[1]), resample=resample)
        return torch.from_numpy(np.array(image.transpose(1, 2, 0)))

    def split(self, image: Tensor) -> tuple[Tensor, int, int]:
        """(height, width, 3) at `size` -> (tiles, 3, side, side), rows and columns of tiles, 0 and 0 where one tile
        is the whole."""
        tiles, rows, columns = self._processor.split_images(
            image.permute(2, 0, 1).numpy(), {"longest_edge": self._tile_px}, resample=self._processor.resample
        )
        return torch.from_numpy(np.stack(tiles)), rows, columns

    def grids(self) -> list[tuple[int, int]]:
        """Rows and columns of tiles that a page may have."""
        side = math.isqrt(self.most_tiles - 1)
        return [(0, 0), *((rows, columns) for rows in range(1, side + 1) for columns in range(1, side + 1))]

    def _scaled(self, height_px: int, width_px: int) -> tuple[int, int]:
        shape = np.broadcast_to(np.uint8(0), (3, height_px, width_px))
        size: tuple[int, int] = get_resize_output_image_size(shape, resolution_max_side=self._longest_px)
        return size

    def _whole_tiles(self, height_px: int, width_px: int) -> tuple[int, int]:
        """As `resize_for_vision_encoder` of the image processor, which a test compares."""
        aspect, tile_px = width_px / height_px, self._tile_px
        if width_px >= height_px:
            width_px = math.ceil(width_px / tile_px) * tile_px
            height_px = math.ceil(max(1, int(width_px / aspect)) / tile_px) * tile_px
        else:
            height_px = math.ceil(height_px / tile_px) * tile_px
            width_px = math.ceil(max(1, int(height_px * aspect)) / tile_px) * tile_px
        return height_px, width_px


class ColModernVBert(Family):
    """A page's `image` is (tiles, 3, side, side) uint8, its `grid` the rows and columns of tiles."""

    name = "colmodernvbert"
    title = "ColModernVBert"
    checkpoint = "ModernVBERT/colmodernvbert-merged"
    network_class = ColModernVBertForRetrieval
    not_quantised = ("embedding_proj_layer", "vlm.vision_model", "vlm.connector")
    nf4_bytes_per_parameter = 1.4

    @classmethod
    def read_processor(cls, folder: Path) -> Any:
        images = Idefics3ImageProcessorPil.from_pretrained(folder, local_files_only=True)
        return ColModernVBertProcessor.from_pretrained(folder, image_processor=images, local_files_only=True)

    @classmethod
    def prompts(cls, processor: Any) -> str:
        return "\n".join((processor.visual_prompt_prefix, processor.query_prefix, processor.query_augmentation_token))

    def __init__(self, network: Any, processor: Any, options: FamilyOptions) -> None:
        self.dim = network.config.embedding_dim
        self._network = network
        self._options = options
        self._dtype: torch.dtype = network.vlm.vision_model.dtype
        self._pad_token: int = processor.tokenizer.pad_token_id
        self._tile_tokens: int = processor.image_seq_len
        self._image_token: int = processor.image_token_id
        storable_tiles = (ROWS_PER_PAGE - _PROMPT_ROWS) // (self._tile_tokens + _MARKERS_OF_TILE)
        self._published_cap = _Tiling(processor.image_processor, storable_tiles).most_tiles * self._tile_tokens
        most_tiles = min(storable_tiles, self.token_cap(options.max_tokens) // self._tile_tokens)
        self.sizing: _Tiling = _Tiling(processor.image_processor, most_tiles)
        self._page_ids = {grid: _page_ids(processor, grid) for grid in self.sizing.grids()}
        after = processor.query_augmentation_token * AUGMENTATION_TOKENS
        self._queries = QueryEncoder(processor.tokenizer, prefix=processor.query_prefix, after=after)
        self._normaliser = Normaliser(processor.image_processor, network.device)

    def token_cap(self, max_tokens: int) -> int:
        return max_tokens or self._published_cap

    def prepare(self, item: Page | str) -> ModelInput:
        if isinstance(item, str):
            ids = torch.tensor(self._queries.encode(item))
            return ModelInput(ids, slice(0, len(ids)))
        tiles, rows, columns = self.sizing.split(self.sizing.resize(self.pixels_of(item)))
        ids = self._page_ids[rows, columns]
        kept = slice(0, len(ids)) if self._options.keep_prompt else (ids == self._image_token).nonzero()[:, 0]
        tiles = tiles.pin_memory() if self._options.is_pinned else tiles
        return ModelInput(ids, kept, image=tiles, grid=(rows, columns))

    def forward(self, batch: Sequence[ModelInput]) -> Tensor:
        device = self._network.device
        inputs = to_device(padded_ids(batch, self._pad_token), device)
        images = [item.image.to(device, non_blocking=True) for item in batch if item.image is not None]
        if images:
            # (1, tiles of all pages, 3, side, side): the network wants them in the order of the image tokens.
            inputs["pixel_values"] = self._normaliser.normalise(torch.cat(images))[None].to(self._dtype)
        embeddings: Tensor = self._network(**inputs).embeddings
        return embeddings


def _page_ids(processor: Any, grid: tuple[int, int]) -> Tensor:
    rows, columns = grid
    tiles = processor.replace_image_token({"rows": [[rows]], "cols": [[columns]]}, 0)
    text = processor.visual_prompt_prefix.replace(processor.image_token, tiles)
    return torch.tensor(processor.tokenizer(text)["input_ids"])
