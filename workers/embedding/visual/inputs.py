"""Pages and queries -> what ColQwen2 reads: the tokens, positions and picture of its published processor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Protocol

import torch
from torch import Tensor

from ingestion.errors import BadRequest
from ingestion.model import ROWS_PER_PAGE, Page
from workers.embedding.visual.pixels import ImageSizing

AUGMENTATION_TOKENS: Final = 10
"""Of a query: the model was trained to use them as room for thought."""

MAX_QUERY_TOKENS: Final = 512
"""Of a query's own text; what is longer is cut."""


@dataclass(frozen=True, slots=True, eq=False)
class ModelInput:
    """One page or query for the model.

    `token_ids` is (tokens,), `positions` its multimodal positions (3, tokens): time, row and column. `kept` are the
    rows that are its vectors. Of a page alone: `picture`, (height, width, 3) uint8, and its `grid` of patches in
    time, height and width.
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
    """`get_rope_index` of Qwen2-VL. It keeps no state, so threads may share it."""

    def __call__(
        self, input_ids: Tensor, mm_token_type_ids: Tensor, image_grid_thw: Tensor | None
    ) -> tuple[Tensor, Tensor]: ...


class Preparer:
    """The processor's work for one page or query at a time. Safe to call from several threads."""

    def __init__(
        self, processor: Any, positions: Positions, *, max_tokens: int, keep_prompt: bool, pinned: bool
    ) -> None:
        """`max_tokens` limits the image tokens of a page; `keep_prompt`: the tokens around them give vectors too;
        `pinned`: pictures lie in memory that a GPU copies from without waiting."""
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
        """Raises BadRequest where the page comes without its pixels."""
        if page.pixels is None:
            raise BadRequest(f"page {page.page_number} comes without its picture, and ColQwen2 embeds nothing else")
        picture = self.sizing.resize(page.pixels)
        grid = self.sizing.grid(picture)
        image_tokens = self.sizing.image_tokens(grid)
        ids = torch.tensor([*self._before, *[self._image_token] * image_tokens, *self._after])
        first = len(self._before)
        kept = slice(0, len(ids)) if self._keep_prompt else slice(first, first + image_tokens)
        positions = self._position(ids, torch.tensor([grid]))
        return ModelInput(ids, positions, kept, picture.pin_memory() if self._pinned else picture, grid)

    def query(self, text: str) -> ModelInput:
        """Special tokens in `text` are letters like others: nobody's question holds a place for an image."""
        own: list[int] = self._plain.encode(self._query_prefix + text).ids
        ids = torch.tensor([*own[:MAX_QUERY_TOKENS], *self._query_suffix])
        return ModelInput(ids, self._position(ids, None), slice(0, len(ids)))

    def _position(self, ids: Tensor, grids: Tensor | None) -> Tensor:
        is_image = (ids == self._image_token).int()
        positions, _ = self._positions(ids[None], is_image[None], grids)  # (3, 1, tokens)
        return positions[:, 0]


def _around(prompt: list[int], processor: Any) -> tuple[list[int], list[int]]:
    """The prompt's tokens before and after the place of the image."""
    place = prompt.index(processor.image_token_id)
    return prompt[:place], prompt[place + 1 :]


def _encode(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text)["input_ids"]
    return ids


def _plain_encoder(tokenizer: Any) -> Any:
    """A tokenizer that takes special tokens for text. Its own copy: it is set up once, and then shared by threads."""
    from tokenizers import Tokenizer

    plain = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    plain.no_padding()
    plain.no_truncation()
    plain.encode_special_tokens = True
    return plain
