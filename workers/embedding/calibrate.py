"""How large may a batch be? Time and memory of one batch at growing sizes, as an operator would choose from."""

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
"""Of the best speed: what larger batches gain beyond it is not worth their memory."""


class MemoryProbe(Protocol):
    """Tells how much memory the work since `reset` has taken at its highest, weights included."""

    def reset(self) -> None: ...

    def peak_bytes(self) -> int: ...


class GpuMemory:
    """What torch has reserved on a GPU, which is what `nvidia-smi` shows of it, but for the driver's own share."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def reset(self) -> None:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self._device)

    def peak_bytes(self) -> int:
        return torch.cuda.max_memory_reserved(self._device)


class ProcessMemory:
    """What the process holds at the moment; of a CPU's allocator the highest point is not known."""

    def reset(self) -> None:
        """Nothing to reset."""

    def peak_bytes(self) -> int:
        return psutil.Process().memory_info().rss


@dataclass(frozen=True, slots=True)
class BatchMeasurement:
    """One batch size. `seconds` is a batch's median; None where it did not fit the memory."""

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
    """Measure batches of `item` of each size in turn, and end with the first that does not fit.

    `item` is prepared once, outside the time measured. Raises what the model raises, OutOfMemory excepted.
    """
    prepared = model.prepare(item)
    for size in sizes:
        batch = [prepared] * size
        memory.reset()
        try:
            _run(model, batch, clock)  # the first of a size takes longer
            seconds: float | None = statistics.median(_run(model, batch, clock) for _ in range(repeats))
        except OutOfMemory:
            seconds = None
        yield BatchMeasurement(size, size * prepared.cost, memory.peak_bytes(), seconds)
        if seconds is None:
            model.on_out_of_memory()
            return


def recommend_batch(measured: Sequence[BatchMeasurement]) -> BatchMeasurement | None:
    """The smallest batch that is nearly as fast as the fastest; None where none fits."""
    best = max((one.items_per_s for one in measured), default=0.0)
    good = [one for one in measured if one.seconds and one.items_per_s >= _GOOD_SHARE * best]
    return min(good, key=lambda one: one.items, default=None)


def _run(model: BatchedModel[ItemT, PreparedT, RawT], batch: Sequence[PreparedT], clock: Callable[[], float]) -> float:
    started = clock()
    model.finish(model.forward(batch), batch)
    return clock() - started
