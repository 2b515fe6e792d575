"""Continuous batching for a device, across callers.

    embed() -> queue -> prepare (threads) -> queue -> forward (one thread) -> finish (one thread) -> embed() returns

`BatchQueue` orders the items and decides when a batch starts. A `Chooser` decides which items it holds.
`AdaptiveBatchLimit` decides how large it may be. The stages run in parallel. A free device takes the best batch of
the items that are prepared by then. On a CPU, each of several forward threads acts as a device.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Final, Generic

import structlog

from ingestion import metrics
from ingestion.errors import DeviceMemoryExhausted, IngestError, WorkerFault
from ingestion.model import Vectors
from workers.embedding.batching.activity import ActivityTracker
from workers.embedding.batching.backlog import Call
from workers.embedding.batching.batch_queue import Batch, BatchQueue
from workers.embedding.batching.grouping import AdaptiveBatchLimit, Chooser, choose_least_padding
from workers.embedding.batching.stages import BatchedModel, ItemT, OutOfMemory, PreparedT, RawT
from workers.runtime.urgency import is_urgent

log = structlog.get_logger(__name__)

_BATCHES_AFTER_FORWARD: Final = 2
"""One batch in `finish`, and one that waits for it."""

_PREPARED_BATCHES: Final = 3
"""Full batches of prepared items that may wait. More reduces padding and uses more memory."""

_PREPARE_THREADS: Final = max(2, min(8, (os.cpu_count() or 2) // 2))
_CLOSE_S: Final = 30.0


class Batcher(Generic[ItemT, PreparedT, RawT]):
    """Runs a BatchedModel for many callers. The constructor starts the threads; `close` ends them."""

    def __init__(
        self,
        model: BatchedModel[ItemT, PreparedT, RawT],
        *,
        batch_cost: int,
        wait_ms: float = 10.0,
        prepare_threads: int = _PREPARE_THREADS,
        forward_threads: int = 1,
        choose: Chooser = choose_least_padding,
    ) -> None:
        """`batch_cost`: largest cost of a batch in positions, padding included; a larger item goes alone.

        `wait_ms`: how long an idle device waits for a fuller batch while more items are being prepared.
        `forward_threads`: above 1 only for a model whose `forward` several threads may call in parallel.
        `choose`: chooses the next batch from the waiting items.
        """
        self._model = model
        self._limit = AdaptiveBatchLimit(batch_cost)
        self._limit_lock = threading.Lock()
        self._queue = BatchQueue[ItemT, PreparedT](
            max_prepared_cost=_PREPARED_BATCHES * batch_cost, wait_s=wait_ms / 1000, choose=choose
        )
        self._batch_slots = threading.Semaphore(forward_threads + _BATCHES_AFTER_FORWARD)
        self._forwarded = SimpleQueue[tuple[Batch[ItemT, PreparedT], RawT] | None]()
        self._forward_threads_running = forward_threads
        self._why_closed = "the embedder has been closed"
        self.activity = ActivityTracker()
        metrics.BATCH_BUDGET.set(batch_cost)
        stages = [(f"prepare-{number}", self._prepare) for number in range(prepare_threads)]
        stages += [(f"forward-{number}", self._forward) for number in range(forward_threads)]
        stages += [("finish", self._finish)]
        # Daemon threads: a device that hangs must not keep the process alive.
        self._threads = [
            threading.Thread(target=self._repeat, args=(stage,), name=f"embed-{name}", daemon=True)
            for name, stage in stages
        ]
        for thread in self._threads:
            thread.start()

    async def embed(self, items: Sequence[ItemT], *, urgent: bool = False) -> list[Vectors]:
        """Return the vectors of each item, in order. Waits without a limit.

        `urgent` items, and those of urgent jobs, go first.

        Raises the first error of any item, always an IngestError: the model's own IngestError, DeviceMemoryExhausted
        for an item that does not fit the device alone, and WorkerFault for anything else, a closed batcher included.
        An error or a cancellation drops the items that have not reached the device.
        """
        if not items:
            return []
        call = Call(items, urgent=urgent or is_urgent())
        if not self._queue.add_call(call):
            raise WorkerFault(self._why_closed, stage="embed")
        try:
            return await call.result
        finally:
            self._queue.drop_call(call)

    async def close(self) -> None:
        """Fail the waiting calls, then wait up to 30 s for the threads to end. Safe to repeat."""
        self._fail_all(WorkerFault(self._why_closed, stage="embed"))
        await asyncio.to_thread(self._join)

    def _fail_all(self, error: IngestError) -> None:
        for call in self._queue.close():
            call.fail(error)

    def _join(self) -> None:
        deadline = time.monotonic() + _CLOSE_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if hanging := [thread.name for thread in self._threads if thread.is_alive()]:
            log.warning("the device does not answer", threads=hanging)

    def _repeat(self, stage: Callable[[], bool]) -> None:
        """Body of a thread: call the stage until it returns False."""
        try:
            while stage():
                pass
        except BaseException as error:  # the callers of a stage that ended silently would wait forever
            log.exception("batcher failed")
            self._why_closed = f"the embedder failed: {type(error).__name__}: {error}"
            self._fail_all(_as_ingest_error(error))
            self._batch_slots.release()
            self._forwarded.put(None)

    def _prepare(self) -> bool:
        taken = self._queue.take_item()
        if taken is None:
            return False
        work_item, item = taken
        try:
            with self.activity.track():
                prepared = self._model.prepare(item)
        except Exception as error:  # noqa: BLE001 - the caller gets it
            self._queue.failed(work_item)
            work_item.call.fail(_as_ingest_error(error))
        else:
            self._queue.put(work_item, prepared)
        return True

    def _forward(self) -> bool:
        self._batch_slots.acquire()
        batch = self._queue.take_batch(self._limit.current)
        if batch is None:
            self._batch_slots.release()  # another forward thread needs the slot to see the closed queue
            self._forwarded.put(None)
            return False
        started = time.monotonic()
        try:
            with self.activity.track():
                passed_on = self._run(batch)
        finally:
            metrics.DEVICE_BUSY.inc(time.monotonic() - started)
        if not passed_on:
            self._batch_slots.release()
        return True

    def _run(self, batch: Batch[ItemT, PreparedT]) -> bool:
        """Return True if `finish` has the batch now, False if its items failed or wait again for a smaller batch."""
        alone = len(batch.work_items) == 1
        for _ in range(2 if alone else 1):  # a single item gets a second attempt after the cache was freed
            try:
                raw = self._model.forward(batch.prepared)
            except OutOfMemory as error:
                reason = str(error)
            except Exception as error:  # noqa: BLE001 - the callers get it
                batch.fail(_as_ingest_error(error))
                return False
            else:
                self._forwarded.put((batch, raw))
                self._on_success(batch)
                return True
            # Outside the except block, where the exception still references the frames and tensors of the forward.
            metrics.OUT_OF_MEMORY.inc()
            self._model.on_out_of_memory()
        if alone:
            log.warning("item does not fit the device", patches=batch.cost, cause=reason)
            batch.fail(DeviceMemoryExhausted(f"{batch.cost} patches do not fit the device: {reason}", stage="embed"))
        else:
            self._on_out_of_memory(batch, reason)
        return False

    def _on_out_of_memory(self, batch: Batch[ItemT, PreparedT], reason: str) -> None:
        with self._limit_lock:
            self._limit.on_out_of_memory(batch.cost)
        metrics.BATCH_BUDGET.set(self._limit.current)
        log.warning("out of memory", patches=batch.cost, patches_from_now=self._limit.current, cause=reason)
        self._queue.put_back(batch.work_items)

    def _on_success(self, batch: Batch[ItemT, PreparedT]) -> None:
        with self._limit_lock:
            self._limit.on_success(full=batch.is_full)
        metrics.BATCH_BUDGET.set(self._limit.current)
        metrics.BATCH_ITEMS.observe(len(batch.work_items))
        metrics.BATCH_COST.observe(batch.cost)
        metrics.PADDING.inc(batch.padding)
        for waited_s in batch.waited_s:
            metrics.BATCH_WAIT.observe(waited_s)

    def _finish(self) -> bool:
        forwarded = self._forwarded.get()
        if forwarded is None:
            self._forward_threads_running -= 1
            return self._forward_threads_running > 0
        batch, raw = forwarded
        try:
            with self.activity.track():
                finished = self._model.finish(raw, batch.prepared)
            for work_item, vectors in zip(batch.work_items, finished, strict=True):
                work_item.call.deliver(work_item.index, vectors)
        except Exception as error:  # noqa: BLE001 - the callers get it
            batch.fail(_as_ingest_error(error))
        self._batch_slots.release()
        return True


def _as_ingest_error(error: BaseException) -> IngestError:
    """Return an IngestError unchanged, and anything else as a WorkerFault.

    Clears the frames of the traceback, so that a caller who keeps the error does not keep the model's tensors.
    """
    link: BaseException | None = error
    while link is not None:
        traceback.clear_frames(link.__traceback__)
        link = link.__cause__ or link.__context__
    if isinstance(error, IngestError):
        error.stage = error.stage or "embed"
        return error
    fault = WorkerFault(f"{type(error).__name__}: {error}", stage="embed")
    fault.__cause__ = error
    return fault
