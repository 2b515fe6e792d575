"""Turn pages and queries into ColQwen2's inputs: the tokens, positions and image of its published processor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Protocol

import torch
from torch import Tensor

from ingestion.errors import BadRequest
from ingestion.model import ROWS_PER_PAGE, Page
from workers.embedding.visual.pixels import ImageSizing

AUGMENTATION_TOKENS: Final = 10
"""Padding tokens after a query, as in training: their vectors extend the query (query augmentation, ColBERT)."""

MAX_QUERY_TOKENS: Final = 512
"""Most tokens of a query's own text. The rest is cut."""


@dataclass(frozen=True, slots=True, eq=False)
class ModelInput:
    """One prepared page or query.

    `token_ids`: (tokens,) int64. `positions`: (3, tokens) int64, the M-RoPE positions in time, row and column.
    `kept`: the output rows that become vectors. For a page also `image`, (height, width, 3) uint8, and `grid`, its
    patches in time, height and width.
    """

    token_ids: Tensor
    positions: Tensor
    kept: slice
    image: Tensor | None = None
    grid: tuple[int, int, int] = (0, 0, 0)

    @property
    def cost(self) -> int:
        return len(self.token_ids)


class Positions(Protocol):
    """`get_rope_index` of Qwen2-VL: (1, tokens) ids -> (3, 1, tokens) positions. Stateless: threads may share it."""

    def __call__(
        self, input_ids: Tensor, mm_token_type_ids: Tensor, image_grid_thw: Tensor | None
    ) -> tuple[Tensor, Tensor]: ...


class Preparer:
    """The processor's work for one page or query at a time. Safe in several threads."""

    def __init__(
        self, processor: Any, positions: Positions, *, max_tokens: int, keep_prompt: bool, pinned: bool
    ) -> None:
        """`max_tokens`: most image tokens of a page. `keep_prompt`: prompt tokens give vectors too. `pinned`: put
        images into pinned memory, which a GPU copies asynchronously."""
        self._positions = positions
        self._keep_prompt = keep_prompt
        self._pinned = pinned
        self._image_token: int = processor.image_token_id
        self._before, self._after = _around(_encode(processor.tokenizer, processor.visual_prompt_prefix), processor)
        self._query_prefix: str = processor.query_prefix
        suffix = processor.query_augmentation_token * AUGMENTATION_TOKENS + "\n"
        self._query_suffix = _encode(processor.tokenizer, suffix)
        self._plain = _plain_encoder(processor.tokenizer)
        prompt_tokens = len(self._before) + len(self._after)
        self.sizing = ImageSizing(processor.image_processor, min(max_tokens, ROWS_PER_PAGE - prompt_tokens))

    def page(self, page: Page) -> ModelInput:
        """Raises BadRequest for a page without pixels."""
        if page.pixels is None:
            raise BadRequest(f"page {page.page_number} has no pixels, and ColQwen2 embeds nothing else")
        image = self.sizing.resize(page.pixels)
        grid = self.sizing.grid(image)
        image_tokens = self.sizing.image_tokens(grid)
        ids = torch.tensor([*self._before, *[self._image_token] * image_tokens, *self._after])
        first = len(self._before)
        kept = slice(0, len(ids)) if self._keep_prompt else slice(first, first + image_tokens)
        positions = self._position(ids, torch.tensor([grid]))
        return ModelInput(ids, positions, kept, image.pin_memory() if self._pinned else image, grid)

    def query(self, text: str) -> ModelInput:
        """Special tokens in `text` are read as plain text, so a query cannot contain an image token."""
        own: list[int] = self._plain.encode(self._query_prefix + text).ids
        ids = torch.tensor([*own[:MAX_QUERY_TOKENS], *self._query_suffix])
        return ModelInput(ids, self._position(ids, None), slice(0, len(ids)))

    def _position(self, ids: Tensor, grids: Tensor | None) -> Tensor:
        is_image = (ids == self._image_token).int()
        positions, _ = self._positions(ids[None], is_image[None], grids)  # (3, 1, tokens)
        return positions[:, 0]


def _around(prompt: list[int], processor: Any) -> tuple[list[int], list[int]]:
    """The prompt's tokens before and after the image token."""
    at = prompt.index(processor.image_token_id)
    return prompt[:at], prompt[at + 1 :]


def _encode(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text)["input_ids"]
    return ids


def _plain_encoder(tokenizer: Any) -> Any:
    """A copy of the tokenizer that reads special tokens as text. Its settings are fixed: threads may share it."""
    from tokenizers import Tokenizer

    plain = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    plain.no_padding()
    plain.no_truncation()
    plain.encode_special_tokens = True
    return plain
