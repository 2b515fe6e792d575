"""Measure time and memory of a batch at growing sizes, so that an operator can choose the batch size."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import psutil
import torch

from workers.embedding.batching.stages import BatchedModel, ItemT, OutOfMemory, PreparedT, RawT

_GOOD_SHARE: Final = 0.97
"""Share of the best speed that a smaller batch must reach to be recommended."""


class MemoryProbe(Protocol):
    """Peak memory of the work since `reset`, weights included."""

    def reset(self) -> None: ...

    def peak_bytes(self) -> int: ...


class GpuMemory:
    """Memory that torch has reserved on a GPU: what `nvidia-smi` shows, without the driver's own share."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def reset(self) -> None:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self._device)

    def peak_bytes(self) -> int:
        return torch.cuda.max_memory_reserved(self._device)


class ProcessMemory:
    """Resident memory of the process now: a CPU's allocator does not record its peak."""

    def reset(self) -> None:
        """Nothing to reset."""

    def peak_bytes(self) -> int:
        return psutil.Process().memory_info().rss


@dataclass(frozen=True, slots=True)
class BatchMeasurement:
    """One batch size. `seconds` is the median of a batch; None if the batch did not fit."""

    items: int
    patches: int
    memory_bytes: int
    seconds: float | None

    @property
    def items_per_s(self) -> float:
        return self.items / self.seconds if self.seconds else 0.0


def measure_batches(
    model: BatchedModel[ItemT, PreparedT, RawT],
    item: ItemT,
    *,
    sizes: Sequence[int],
    repeats: int,
    memory: MemoryProbe,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[BatchMeasurement]:
    """Yield one measurement per batch size, and stop after the first size that does not fit.

    `item` is prepared once, outside the measured time. Raises the errors of the model, except OutOfMemory.
    """
    prepared = model.prepare(item)
    for size in sizes:
        batch = [prepared] * size
        memory.reset()
        try:
            _run(model, batch, clock)  # the first batch of a size warms up the device
            seconds: float | None = statistics.median(_run(model, batch, clock) for _ in range(repeats))
        except OutOfMemory:
            seconds = None
        yield BatchMeasurement(size, size * prepared.cost, memory.peak_bytes(), seconds)
        if seconds is None:
            model.on_out_of_memory()
            return


def recommend_batch(measured: Sequence[BatchMeasurement]) -> BatchMeasurement | None:
    """The smallest batch within 3 % of the fastest; None if no batch fits."""
    best = max((one.items_per_s for one in measured), default=0.0)
    good = [one for one in measured if one.seconds and one.items_per_s >= _GOOD_SHARE * best]
    return min(good, key=lambda one: one.items, default=None)


def _run(model: BatchedModel[ItemT, PreparedT, RawT], batch: Sequence[PreparedT], clock: Callable[[], float]) -> float:
    started = clock()
    model.finish(model.forward(batch), batch)
    return clock() - started
