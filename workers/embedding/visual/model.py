"""A visual model as a BatchedModel: prepare on the CPU, forward on the device, finish on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor

from ingestion.model import Page, Vectors
from ingestion.vectors.pooling import pool
from workers.embedding.batching.stages import OutOfMemory
from workers.embedding.visual.family import Family, ModelInput

_NO_WORKSPACE: Final = "CUBLAS_STATUS_ALLOC_FAILED"
"""cuBLAS's out-of-memory error, which torch raises as a plain RuntimeError."""


class VisualModel:
    """Implements BatchedModel around a family. A batch may hold pages and queries side by side."""

    def __init__(self, network: Any, family: Family, *, pooling: int = 1) -> None:
        """`pooling`: a page keeps one of so many vectors (hierarchical token pooling)."""
        self.network = network
        self.family = family
        self.dim = family.dim
        self.sizing = family.sizing
        self._pooling = pooling

    def prepare(self, item: Page | str) -> ModelInput:
        """Prepare a page, or a query given as text. Raises BadRequest for a page without pixels."""
        return self.family.prepare(item)

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
        finished = [vectors.numpy() for vectors in self.family.finish(raw, batch)]
        return [
            vectors if item.image is None else pool(vectors, self._pooling)
            for item, vectors in zip(batch, finished, strict=True)
        ]

    def on_out_of_memory(self) -> None:
        if self.network.device.type == "cuda":
            torch.cuda.empty_cache()

    @torch.inference_mode()
    def _forward(self, batch: Sequence[ModelInput]) -> Tensor:
        return self.family.forward(batch).float().cpu()  # waits for the device
