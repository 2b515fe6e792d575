"""The model of a batcher: it embeds in three stages, which run in parallel on different batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from ingestion.model import Vectors


class OutOfMemory(Exception):
    """Raised by `BatchedModel.forward` if the device's memory does not hold the batch."""


class Prepared(Protocol):
    """An item in the form that `forward` reads."""

    @property
    def cost(self) -> int:
        """Positions (patches or tokens, special ones included) that the item takes in a forward; at least 1.

        A batch pads every item to the largest cost, unless the model packs its items.
        """


ItemT = TypeVar("ItemT")
ItemT_contra = TypeVar("ItemT_contra", contravariant=True)
PreparedT = TypeVar("PreparedT", bound=Prepared)
RawT = TypeVar("RawT")


class BatchedModel(Protocol[ItemT_contra, PreparedT, RawT]):
    """Turns pages, queries or texts into vectors. The methods are synchronous; each runs in a thread and may block."""

    def prepare(self, item: ItemT_contra) -> PreparedT:
        """CPU work for one item: resize, cut into patches, tokenise. Several threads call this at a time.

        An error fails the call of this item only.
        """

    def forward(self, batch: Sequence[PreparedT]) -> RawT:
        """Device work for one or more items, of any callers and of any kind that `prepare` returns.

        One thread calls this, one call at a time. A batcher with several forward threads calls it from each of them in
        parallel. It must return only after the device has finished, so that the next batch is chosen from all items
        that wait by then.

        Raises OutOfMemory if the batch does not fit; any other error fails every item in the batch.
        """

    def finish(self, raw: RawT, batch: Sequence[PreparedT]) -> list[Vectors]:
        """Split the output, drop padding, pool: one (rows, dim) float32 array per item, in order.

        One thread calls this, one call at a time, while the next `forward` runs. An error fails every item in the
        batch.
        """

    def on_out_of_memory(self) -> None:
        """Free the memory that the device's allocator caches.

        Called only after OutOfMemory, in the thread of `forward`, when nothing references the failed batch.
        """
