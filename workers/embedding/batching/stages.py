"""What the batcher asks of a model: an embedding in three steps, which overlap with those of other batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from ingestion.model import Vectors


class OutOfMemory(Exception):
    """Raised by `StagedModel.forward` where the device's memory does not hold the batch."""


class Prepared(Protocol):
    """An item on its way to the device."""

    @property
    def cost(self) -> int:
        """Positions that the item takes in a forward: patches or tokens, special ones included; at least 1.

        In a batch every item is padded to the largest cost, unless the model packs its items.
        """


ItemT = TypeVar("ItemT")
ItemT_contra = TypeVar("ItemT_contra", contravariant=True)
PreparedT = TypeVar("PreparedT", bound=Prepared)
RawT = TypeVar("RawT")


class StagedModel(Protocol[ItemT_contra, PreparedT, RawT]):
    """Pages, queries or texts to vectors. The methods are plain functions: each runs in a thread, and may block."""

    def prepare(self, item: ItemT_contra) -> PreparedT:
        """The work of the CPU: resize, patchify, tokenize. Called from several threads at a time.

        An error is this item's alone.
        """

    def forward(self, batch: Sequence[PreparedT]) -> RawT:
        """The work of the device, on one or more items of any callers, and of any kinds that `prepare` returns.

        Always called from the same thread, one call at a time, unless the batcher is given several forward threads:
        then from each of them, and at once. It returns when the device is through: the next batch is made of what
        waits by then, which fills it better than one made early, and starts within a millisecond.
        Raises OutOfMemory where the batch does not fit; any other error is that of every item in it.
        """

    def finish(self, raw: RawT, batch: Sequence[PreparedT]) -> list[Vectors]:
        """Split, drop padding, pool: one float32 array per item of the batch, in order.

        Called from a thread of its own, one call at a time, while the next `forward` runs. An error is that of every
        item in the batch.
        """

    def on_out_of_memory(self) -> None:
        """Give back what the device's allocator caches.

        Called in `forward`'s thread after OutOfMemory and at no other time; nothing of the failed forward is alive.
        """
