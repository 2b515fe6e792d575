"""A BatchedModel for tests: its vectors name their item, and the test controls each stage."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import numpy as np

from ingestion.model import Vectors
from tests.support.waiting import wait_until
from workers.embedding.batching.batcher import Batcher
from workers.embedding.batching.stages import OutOfMemory

SOON_S = 20.0
NEVER_MS = 60_000.0
_HELD_S = 30.0


@dataclass(frozen=True)
class Sheet:
    """An item that is also its prepared form. `raises`: the error of each failing stage, by the stage's name."""

    name: int
    cost: int = 100
    raises: dict[str, BaseException] = field(default_factory=dict, compare=False)

    def check(self, step: str) -> None:
        if step in self.raises:
            raise self.raises[step]


class Step:
    """A stage that a test can hold: threads that enter it wait for `let_go`."""

    def __init__(self) -> None:
        self.entered = 0
        self._open = threading.Event()
        self._open.set()

    def hold(self) -> None:
        self._open.clear()

    def let_go(self) -> None:
        self._open.set()

    def pass_through(self) -> None:
        self.entered += 1
        assert self._open.wait(_HELD_S), "held for ever"


class FakeModel:
    """`capacity`: largest padded cost that fits the device's memory."""

    def __init__(self, capacity: int = 10**9) -> None:
        self.capacity = capacity
        self.preparing, self.forwarding, self.finishing = Step(), Step(), Step()
        self.prepared: list[int] = []
        self.batches: list[list[Sheet]] = []
        """Batches that the device has computed."""
        self.refused: list[list[Sheet]] = []
        """Batches that ran out of memory."""
        self.emptied = 0

    def prepare(self, item: Sheet) -> Sheet:
        self.preparing.pass_through()
        item.check("prepare")
        self.prepared.append(item.name)
        return item

    def forward(self, batch: Sequence[Sheet]) -> list[Sheet]:
        self.forwarding.pass_through()
        if max(sheet.cost for sheet in batch) * len(batch) > self.capacity:
            self.refused.append(list(batch))
            raise OutOfMemory(f"{len(batch)} items do not fit")
        for sheet in batch:
            sheet.check("forward")
        self.batches.append(list(batch))
        return list(batch)

    def finish(self, raw: list[Sheet], batch: Sequence[Sheet]) -> list[Vectors]:
        self.finishing.pass_through()
        for sheet in batch:
            sheet.check("finish")
        return [vectors_of(sheet) for sheet in raw]

    def on_out_of_memory(self) -> None:
        self.emptied += 1

    @property
    def computed(self) -> list[int]:
        """Names of the computed items, in order."""
        return [sheet.name for batch in self.batches for sheet in batch]


def vectors_of(sheet: Sheet) -> Vectors:
    return np.full((2, 1), sheet.name, np.float32)


Sheets = Batcher[Sheet, Sheet, list[Sheet]]


@asynccontextmanager
async def running(
    model: FakeModel, batch_cost: int = 1000, wait_ms: float = 0.0, forward_threads: int = 1
) -> AsyncIterator[Sheets]:
    batcher = Batcher(model, batch_cost=batch_cost, wait_ms=wait_ms, forward_threads=forward_threads)
    try:
        yield batcher
    finally:
        for step in (model.preparing, model.forwarding, model.finishing):
            step.let_go()
        await batcher.close()


@contextmanager
def held(step: Step) -> Iterator[None]:
    step.hold()
    try:
        yield
    finally:
        step.let_go()


async def until(condition: Callable[[], object]) -> None:
    await asyncio.to_thread(wait_until, condition, SOON_S)


def sheets(count: int, *, first: int = 0, cost: int = 100) -> list[Sheet]:
    return [Sheet(name, cost) for name in range(first, first + count)]


def embedding(batcher: Sheets, items: Sequence[Sheet], *, urgent: bool = False) -> asyncio.Task[list[Vectors]]:
    return asyncio.create_task(batcher.embed(items, urgent=urgent))


def names(found: Sequence[Vectors]) -> list[int]:
    return [int(vectors[0, 0]) for vectors in found]
