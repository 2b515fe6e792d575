"""ColPali: PaliGemma with a projection, one vector for each token. Every page is squeezed to one square.

Traps, each with a test:

- Without `token_type_ids` attention in a page alone goes in both directions, and in a padded batch backwards only: the
  page's vectors differ by a cosine distance of 0.98. With them it goes in both directions, as published.
- Positions count from 1.
- The image tokens stand before the begin-of-sequence token, and the prompt after it.
- Not quantised: the projection, whose 4-bit weights raise "Got Byte" in the forward; the vision tower and the linear
  layer behind it, which are small (0.4 of 2.9 billion parameters) and through which every number of a page passes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import ColPaliForRetrieval, ColPaliProcessor

from ingestion.model import Page
from workers.embedding.visual.family import Family, FamilyOptions, ModelInput, padded_ids, to_device
from workers.embedding.visual.images import Normaliser, resize_image
from workers.embedding.visual.texts import AUGMENTATION_TOKENS, QueryEncoder


class _Square:
    """Every page has the one size of the image processor."""

    def __init__(self, image_processor: Any) -> None:
        self._size = (int(image_processor.size["height"]), int(image_processor.size["width"]))
        self._resample: int = image_processor.resample

    def size(self, height_px: int, width_px: int) -> tuple[int, int]:
        return self._size

    def resize(self, pixels: NDArray[np.uint8]) -> Tensor:
        return resize_image(pixels, self._size, self._resample)


class ColPali(Family):
    """A page's `image` is (height, width, 3) uint8. `grid` is not used."""

    name = "colpali"
    title = "ColPali"
    checkpoint = "vidore/colpali-v1.3-hf"
    network_class = ColPaliForRetrieval
    not_quantised = ("embedding_proj_layer", "vlm.vision_tower", "vlm.multi_modal_projector")
    nf4_bytes_per_parameter = 1.1
    positions_at = "vlm.language_model"

    @classmethod
    def read_processor(cls, folder: Path) -> Any:
        return ColPaliProcessor.from_pretrained(folder, local_files_only=True)

    @classmethod
    def prompts(cls, processor: Any) -> str:
        return "\n".join((processor.visual_prompt_prefix, processor.query_prefix, processor.query_augmentation_token))

    def __init__(self, network: Any, processor: Any, options: FamilyOptions) -> None:
        self.dim = network.config.embedding_dim
        self.sizing = _Square(processor.image_processor)
        self._network = network
        self._options = options
        tokenizer = processor.tokenizer
        self._pad_token: int = tokenizer.pad_token_id
        self._image_tokens: int = processor.image_seq_length
        text = f"{processor.image_token * self._image_tokens}{tokenizer.bos_token}{processor.visual_prompt_prefix}\n"
        self._page_ids = torch.tensor(tokenizer(text)["input_ids"])
        self._first = int((self._page_ids == processor.image_token_id).nonzero()[0])
        after = processor.query_augmentation_token * AUGMENTATION_TOKENS + "\n"
        self._queries = QueryEncoder(tokenizer, before=tokenizer.bos_token, prefix=processor.query_prefix, after=after)
        self._normaliser = Normaliser(processor.image_processor, network.device)

    def token_cap(self, max_tokens: int) -> int:
        """The setting has no effect: the number is the network's."""
        return self._image_tokens

    def prepare(self, item: Page | str) -> ModelInput:
        if isinstance(item, str):
            ids = torch.tensor(self._queries.encode(item))
            return ModelInput(ids, slice(0, len(ids)))
        image = self.sizing.resize(self.pixels_of(item))
        image = image.pin_memory() if self._options.is_pinned else image
        first, count = (0, len(self._page_ids)) if self._options.keep_prompt else (self._first, self._image_tokens)
        return ModelInput(self._page_ids, slice(first, first + count), image=image)

    def forward(self, batch: Sequence[ModelInput]) -> Tensor:
        device = self._network.device
        inputs = to_device(padded_ids(batch, self._pad_token), device)
        inputs["token_type_ids"] = torch.zeros_like(inputs["input_ids"])
        images = [item.image.to(device, non_blocking=True) for item in batch if item.image is not None]
        if images:
            # (pages, 3, height, width)
            inputs["pixel_values"] = self._normaliser.normalise(torch.stack(images).permute(0, 3, 1, 2))
        embeddings: Tensor = self._network(**inputs, use_cache=False).embeddings
        return embeddings

    def seen_positions(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor | None:
        positions: Tensor | None = kwargs.get("position_ids")
        return positions

    def expected_positions(self, item: ModelInput) -> tuple[int, Tensor]:
        return self._first, self._first + 1 + torch.arange(self._image_tokens)[None]
