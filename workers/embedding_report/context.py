"""What the sections of one step share: the loaded model, and what earlier sections have found."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch

from ingestion.errors import WorkerFault
from ingestion.settings import EmbedderSettings
from workers.embedding.calibrate import BatchMeasurement, GpuMemory, MemoryProbe, ProcessMemory
from workers.embedding_report.plan import Options

FALLBACK_PAGES: Final = 8
"""Pages of a batch where the section that measures batches has failed."""


@dataclass
class Context:
    """`folder`: of the checkpoint. `measured`: the batches, smallest first, once they are."""

    options: Options
    precision: str
    folder: Path
    device: torch.device
    loaded: Any = None
    measured: list[BatchMeasurement] = field(default_factory=list)
    patience: float = 4.0
    """A section may seem to take so many times what is left: a page in a batch takes less than a page alone."""

    @property
    def model(self) -> Any:
        """The loaded VisualModel. Raises WorkerFault where loading has failed."""
        if self.loaded is None:
            raise WorkerFault("the model was not loaded")
        return self.loaded.model

    @property
    def settings(self) -> EmbedderSettings:
        return EmbedderSettings.model_validate(
            {
                "embedder": "visual",
                "visual_model": str(self.folder),
                "visual_precision": self.precision,
                "visual_device": self.options.device,
            }
        )

    @property
    def memory(self) -> MemoryProbe:
        return GpuMemory(self.device) if self.device.type == "cuda" else ProcessMemory()

    @property
    def is_small(self) -> bool:
        """A CPU gets small pages, or it would compute for minutes."""
        return self.device.type == "cpu"

    @property
    def best_pages(self) -> int:
        """Pages of the fastest batch."""
        fitting = [one for one in self.measured if one.seconds]
        if len(fitting) == len(self.measured) and len(fitting) < 2:  # the time was over before a larger one
            return FALLBACK_PAGES
        return max(fitting, key=lambda one: one.items_per_s).items if fitting else 1

    def require_time(self, deadline: Deadline, pages: int) -> None:
        """Raises WorkerFault where so many pages, one at a time, would take much more than the time of the section."""
        if not self.measured or self.measured[0].seconds is None:
            return
        needed_s = pages * self.measured[0].seconds / self.measured[0].items
        if needed_s > self.patience * max(deadline.left_s, 1.0):
            raise WorkerFault(f"{pages} pages would take {needed_s:.0f} s, and {deadline.left_s:.0f} s are left")

    def batch_cost(self, page_cost: int) -> int:
        """Patches of a batch of the fastest size."""
        return self.best_pages * page_cost


@dataclass(frozen=True, slots=True)
class Deadline:
    """The end of a section, on the monotonic clock."""

    at_s: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        return cls(time.monotonic() + seconds)

    @property
    def left_s(self) -> float:
        return self.at_s - time.monotonic()

    @property
    def is_past(self) -> bool:
        return self.left_s <= 0
