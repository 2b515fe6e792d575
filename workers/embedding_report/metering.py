"""A BatchedModel that records how long its device computes, and how much of that is padding."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic

from ingestion.model import Vectors
from workers.embedding.batching.stages import BatchedModel, ItemT, OutOfMemory, PreparedT, RawT


@dataclass
class MeteredModel(Generic[ItemT, PreparedT, RawT]):
    """Costs are in positions: patches and tokens."""

    model: BatchedModel[ItemT, PreparedT, RawT]
    busy_s: float = 0.0
    batches: int = 0
    wanted_cost: int = 0
    computed_cost: int = 0
    out_of_memory: int = 0
    largest_cost: int = 0
    """Of a batch that fitted."""
    prepare_cpu_s: float = 0.0
    prepared: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def prepare(self, item: ItemT) -> PreparedT:
        started = time.thread_time()
        prepared = self.model.prepare(item)
        with self._lock:  # several threads prepare
            self.prepare_cpu_s += time.thread_time() - started
            self.prepared += 1
        return prepared

    def forward(self, batch: Sequence[PreparedT]) -> RawT:
        started = time.perf_counter()
        try:
            raw = self.model.forward(batch)
        except OutOfMemory:
            self.out_of_memory += 1
            raise
        self.busy_s += time.perf_counter() - started
        costs = [prepared.cost for prepared in batch]
        self.largest_cost = max(self.largest_cost, max(costs) * len(costs))
        self.batches += 1
        self.wanted_cost += sum(costs)
        self.computed_cost += max(costs) * len(costs)
        return raw

    def finish(self, raw: RawT, batch: Sequence[PreparedT]) -> list[Vectors]:
        return self.model.finish(raw, batch)

    def on_out_of_memory(self) -> None:
        self.model.on_out_of_memory()

    @property
    def padding_share(self) -> float:
        return 1 - self.wanted_cost / self.computed_cost if self.computed_cost else 0.0

    @property
    def prepare_cpu_ms(self) -> float:
        """A page, or a query."""
        return 1000 * self.prepare_cpu_s / self.prepared if self.prepared else 0.0
