"""ColQwen2 in the batcher's three steps: prepare on the CPU, forward on the device, finish on the CPU again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from ingestion.model import Page, Vectors
from ingestion.vector_pooling import pool
from workers.embedding.batching.stages import OutOfMemory
from workers.embedding.visual.inputs import ModelInput, Preparer
from workers.embedding.visual.pixels import PatchCutter

_NO_WORKSPACE: Final = "CUBLAS_STATUS_ALLOC_FAILED"
"""How cuBLAS says that memory is short; torch passes it on as a RuntimeError like any other."""


class ColQwenModel:
    """Implements BatchedModel. A batch may hold pages and queries side by side."""

    def __init__(
        self, model: Any, processor: Any, *, max_tokens: int, keep_prompt: bool = True, pooling: int = 1
    ) -> None:
        """`model` is a ColQwen2ForRetrieval. `max_tokens` and `keep_prompt` are those of Preparer; `pooling` is the
        number of a page's vectors that become one."""
        self.network = model
        self.dim: int = model.config.embedding_dim
        self._device: torch.device = model.device
        self._dtype: torch.dtype = model.vlm.visual.dtype
        self._pad_token: int = processor.tokenizer.pad_token_id
        self._pooling = pooling
        self._cutter = PatchCutter(processor.image_processor, self._device)
        self._preparer = Preparer(
            processor,
            model.vlm.get_rope_index,
            max_tokens=max_tokens,
            keep_prompt=keep_prompt,
            pinned=self._device.type == "cuda",
        )
        self.sizing = self._preparer.sizing

    def prepare(self, item: Page | str) -> ModelInput:
        """A page, or a query as text. Raises BadRequest for a page without its pixels."""
        return self._preparer.page(item) if isinstance(item, Page) else self._preparer.query(item)

    def forward(self, batch: Sequence[ModelInput]) -> Tensor:
        """(batch, tokens, dim) float32 on the CPU, padding included."""
        try:
            return self._forward(batch)
        except RuntimeError as error:
            if not isinstance(error, torch.OutOfMemoryError) and _NO_WORKSPACE not in str(error):
                raise
            reason = str(error)
        # Raised out here, without the error that led to it: its traceback would keep the batch in memory.
        raise OutOfMemory(reason)

    def finish(self, raw: Tensor, batch: Sequence[ModelInput]) -> list[Vectors]:
        finished = []
        for item, embeddings in zip(batch, raw, strict=True):
            # In BF16 lengths are one to three digits only.
            vectors = functional.normalize(embeddings[item.kept], dim=-1).numpy()  # (tokens, dim)
            finished.append(vectors if item.image is None else pool(vectors, self._pooling))
        return finished

    def on_out_of_memory(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    @torch.inference_mode()
    def _forward(self, batch: Sequence[ModelInput]) -> Tensor:
        output = self.network(**self._collate(batch), use_cache=False)
        embeddings: Tensor = output.embeddings.float().cpu()  # waits for the device
        return embeddings

    def _collate(self, batch: Sequence[ModelInput]) -> dict[str, Tensor]:
        """Arguments of the published forward, on the device.

        Padding is on the right, where causal attention never looks. What is padding is told by length and not by
        token: prompts use the padding token themselves.
        """
        ids = pad_sequence([item.token_ids for item in batch], batch_first=True, padding_value=self._pad_token)
        lengths = torch.tensor([item.cost for item in batch])
        mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()  # (batch, tokens)
        # Without them the native class counts the tokens of a page in one line, as if it were text.
        positions = pad_sequence([item.positions.T for item in batch], batch_first=True)  # (batch, tokens, 3)
        inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": positions.permute(2, 0, 1)}
        pages = [(item.image, item.grid) for item in batch if item.image is not None]
        if pages:
            inputs["image_grid_thw"] = torch.tensor([grid for _, grid in pages])  # (pages, 3)
        inputs = {name: tensor.to(self._device, non_blocking=True) for name, tensor in inputs.items()}
        if pages:
            inputs["pixel_values"] = self._pixel_values([picture for picture, _ in pages])
        return inputs

    def _pixel_values(self, pictures: Sequence[Tensor]) -> Tensor:
        """(pages, patches of the largest, 1176) in the dtype of the vision tower."""
        on_device = (picture.to(self._device, non_blocking=True) for picture in pictures)
        patches = [self._cutter.cut(picture).to(self._dtype) for picture in on_device]
        return pad_sequence(patches, batch_first=True)
