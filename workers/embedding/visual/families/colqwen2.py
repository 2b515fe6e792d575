"""ColQwen2: Qwen2-VL with a projection, one vector for each token.

Traps, each with a test:

- Without `position_ids` the network numbers image tokens like text: they come from Qwen2-VL's `get_rope_index`.
- A 4-bit projection raises "Got Byte" in the forward; a 4-bit vision tower saves half a GB and costs quality.
- The augmentation token of queries is the padding token: a mask made from token ids would drop it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import ColQwen2ForRetrieval, ColQwen2Processor

from ingestion.model import ROWS_PER_PAGE, Page
from workers.embedding.visual.families.qwen2_pixels import ImageSizing, PatchCutter
from workers.embedding.visual.family import Family, FamilyOptions, ModelInput, padded_ids, to_device
from workers.embedding.visual.texts import AUGMENTATION_TOKENS, QueryEncoder

_PUBLISHED_TOKENS: Final = 768


class Positions(Protocol):
    """`get_rope_index` of Qwen2-VL: (1, tokens) ids -> (3, 1, tokens) positions. Stateless: threads may share it."""

    def __call__(
        self, input_ids: Tensor, mm_token_type_ids: Tensor, image_grid_thw: Tensor | None
    ) -> tuple[Tensor, Tensor]: ...


class ColQwen2(Family):
    """A page's `image` is (height, width, 3) uint8, its `grid` the patches in time, height and width.

    `positions` are (3, tokens), the M-RoPE positions in time, row and column.
    """

    name = "colqwen2"
    title = "ColQwen2"
    checkpoint = "vidore/colqwen2-v1.0-hf"
    network_class = ColQwen2ForRetrieval
    not_quantised = ("embedding_proj_layer", "vlm.visual")
    nf4_bytes_per_parameter = 1.2
    positions_at = "vlm.language_model"

    @classmethod
    def read_processor(cls, folder: Path) -> Any:
        return ColQwen2Processor.from_pretrained(folder, local_files_only=True)

    @classmethod
    def prompts(cls, processor: Any) -> str:
        return "\n".join((processor.visual_prompt_prefix, processor.query_prefix, processor.query_augmentation_token))

    def token_cap(self, max_tokens: int) -> int:
        return max_tokens or _PUBLISHED_TOKENS

    def __init__(self, network: Any, processor: Any, options: FamilyOptions) -> None:
        self.dim = network.config.embedding_dim
        self._network = network
        self._options = options
        self._dtype: torch.dtype = network.vlm.visual.dtype
        self._positions: Positions = network.vlm.get_rope_index
        self._pad_token: int = processor.tokenizer.pad_token_id
        self._image_token: int = processor.image_token_id
        self._before, self._after = _around(processor)
        after = processor.query_augmentation_token * AUGMENTATION_TOKENS + "\n"
        self._queries = QueryEncoder(processor.tokenizer, prefix=processor.query_prefix, after=after)
        self._cutter = PatchCutter(processor.image_processor, network.device)
        most_tokens = ROWS_PER_PAGE - len(self._before) - len(self._after)
        self.sizing: ImageSizing = ImageSizing(
            processor.image_processor, min(self.token_cap(options.max_tokens), most_tokens)
        )

    def prepare(self, item: Page | str) -> ModelInput:
        """Special tokens in a query are read as plain text, so a query cannot contain an image token."""
        return self._page(item) if isinstance(item, Page) else self._query(item)

    def forward(self, batch: Sequence[ModelInput]) -> Tensor:
        device = self._network.device
        inputs = padded_ids(batch, self._pad_token)
        # Attention is causal and padding is on the right, so no kept row reads it. Without a mask torch may choose its
        # kernels for causal attention, also where the pages of a batch differ in length.
        del inputs["attention_mask"]
        positions = [item.positions.T for item in batch if item.positions is not None]
        padded = pad_sequence(positions, batch_first=True)  # (batch, tokens, 3)
        inputs["position_ids"] = padded.permute(2, 0, 1)
        pages = [(item.image, item.grid) for item in batch if item.image is not None]
        if pages:
            inputs["image_grid_thw"] = torch.tensor([grid for _, grid in pages])  # (pages, 3)
        inputs = to_device(inputs, device)
        if pages:
            inputs["pixel_values"] = self._pixel_values([image for image, _ in pages])
        embeddings: Tensor = self._network(**inputs, use_cache=False).embeddings
        return embeddings

    def seen_positions(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor | None:
        positions = kwargs.get("position_ids")
        # A fourth axis before the three counts text alone.
        return None if positions is None or positions.ndim < 3 else positions[-3:, 0]

    def expected_positions(self, item: ModelInput) -> tuple[int, Tensor]:
        """Rows and columns count from the first image token."""
        start = int((item.token_ids == self._image_token).nonzero()[0])
        rows, columns = item.grid[1] // 2, item.grid[2] // 2
        at = torch.arange(rows * columns)
        return start, start + torch.stack([torch.zeros_like(at), at // columns, at % columns])

    def _page(self, page: Page) -> ModelInput:
        image = self.sizing.resize(self.pixels_of(page))
        grid = self.sizing.grid(image)
        image_tokens = self.sizing.image_tokens(grid)
        ids = torch.tensor([*self._before, *[self._image_token] * image_tokens, *self._after])
        first = len(self._before)
        kept = slice(0, len(ids)) if self._options.keep_prompt else slice(first, first + image_tokens)
        image = image.pin_memory() if self._options.is_pinned else image
        return ModelInput(ids, kept, self._position(ids, torch.tensor([grid])), image, grid)

    def _query(self, text: str) -> ModelInput:
        ids = torch.tensor(self._queries.encode(text))
        return ModelInput(ids, slice(0, len(ids)), self._position(ids, None))

    def _position(self, ids: Tensor, grids: Tensor | None) -> Tensor:
        is_image = (ids == self._image_token).int()
        positions, _ = self._positions(ids[None], is_image[None], grids)  # (3, 1, tokens)
        return positions[:, 0]

    def _pixel_values(self, images: Sequence[Tensor]) -> Tensor:
        """(pages, most patches, 1176) in the vision tower's dtype; 1176 = 3 channels x 2 frames x 14 x 14 pixels."""
        on_device = (image.to(self._network.device, non_blocking=True) for image in images)
        patches = [self._cutter.cut(image).to(self._dtype) for image in on_device]
        return pad_sequence(patches, batch_first=True)


def _around(processor: Any) -> tuple[list[int], list[int]]:
    """The prompt's tokens before and after the image token."""
    prompt: list[int] = processor.tokenizer(processor.visual_prompt_prefix)["input_ids"]
    at = prompt.index(processor.image_token_id)
    return prompt[:at], prompt[at + 1 :]
