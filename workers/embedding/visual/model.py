"""ColQwen2 as a BatchedModel: prepare on the CPU, forward on the device, finish on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from ingestion.model import Page, Vectors
from ingestion.vectors.pooling import pool
from workers.embedding.batching.stages import OutOfMemory
from workers.embedding.visual.inputs import ModelInput, Preparer
from workers.embedding.visual.pixels import PatchCutter

_NO_WORKSPACE: Final = "CUBLAS_STATUS_ALLOC_FAILED"
"""cuBLAS's out-of-memory error, which torch raises as a plain RuntimeError."""


class ColQwenModel:
    """Implements BatchedModel. A batch may hold pages and queries side by side."""

    def __init__(
        self, model: Any, processor: Any, *, max_tokens: int, keep_prompt: bool = True, pooling: int = 1
    ) -> None:
        """`model`: a ColQwen2ForRetrieval. `max_tokens`, `keep_prompt`: as in Preparer. `pooling`: a page keeps one
        of so many vectors (hierarchical token pooling)."""
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
        """Prepare a page, or a query given as text. Raises BadRequest for a page without pixels."""
        return self._preparer.page(item) if isinstance(item, Page) else self._preparer.query(item)

    def forward(self, batch: Sequence[ModelInput]) -> Tensor:
        """Return (batch, tokens, dim) float32 on the CPU, padding included. Raises OutOfMemory."""
        try:
            return self._forward(batch)
        except RuntimeError as error:
            if not isinstance(error, torch.OutOfMemoryError) and _NO_WORKSPACE not in str(error):
                raise
            reason = str(error)
        # Raised here and not in the except block: the traceback of the cause would keep the batch in memory.
        raise OutOfMemory(reason)

    def finish(self, raw: Tensor, batch: Sequence[ModelInput]) -> list[Vectors]:
        """Return one (rows, dim) float32 array per item, rows of unit length; pages are pooled."""
        finished = []
        for item, embeddings in zip(batch, raw, strict=True):
            # Normalise again: in BF16 the lengths are 1 to three digits only.
            vectors = functional.normalize(embeddings[item.kept], dim=-1).numpy()  # (tokens, dim)
            finished.append(vectors if item.image is None else pool(vectors, self._pooling))
        return finished

    def on_out_of_memory(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    @torch.inference_mode()
    def _forward(self, batch: Sequence[ModelInput]) -> Tensor:
        output = self.network(**self._collate(batch), use_cache=False)
        embeddings: Tensor = output.embeddings.float().cpu()  # (batch, tokens, dim); waits for the device
        return embeddings

    def _collate(self, batch: Sequence[ModelInput]) -> dict[str, Tensor]:
        """Arguments of the published forward, on the device.

        Padding is on the right: causal attention never reads it. The mask comes from the lengths, not from the
        padding token, because prompts contain that token.
        """
        ids = pad_sequence([item.token_ids for item in batch], batch_first=True, padding_value=self._pad_token)
        lengths = torch.tensor([item.cost for item in batch])
        mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()  # (batch, tokens)
        # Without `position_ids` the transformers class numbers image tokens like text, without M-RoPE.
        positions = pad_sequence([item.positions.T for item in batch], batch_first=True)  # (batch, tokens, 3)
        inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": positions.permute(2, 0, 1)}
        pages = [(item.image, item.grid) for item in batch if item.image is not None]
        if pages:
            inputs["image_grid_thw"] = torch.tensor([grid for _, grid in pages])  # (pages, 3)
        inputs = {name: tensor.to(self._device, non_blocking=True) for name, tensor in inputs.items()}
        if pages:
            inputs["pixel_values"] = self._pixel_values([image for image, _ in pages])
        return inputs

    def _pixel_values(self, images: Sequence[Tensor]) -> Tensor:
        """(pages, most patches, 1176) in the vision tower's dtype; 1176 = 3 channels x 2 frames x 14 x 14 pixels."""
        on_device = (image.to(self._device, non_blocking=True) for image in images)
        patches = [self._cutter.cut(image).to(self._dtype) for image in on_device]
        return pad_sequence(patches, batch_first=True)
