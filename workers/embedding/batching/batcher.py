"""Batches for a device, across callers.

    embed() -> line -> prepare (threads) -> line -> forward (one thread) -> finish (one thread) -> embed() returns

`Line` says whose turn it is and when a batch goes, `choose` what is in it, `Budget` how much. The steps overlap, and
whenever the device is free the best batch is made of what is prepared by then. Where the device is a CPU, each of
several forward threads is a device of its own.
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
from workers.embedding.batching.backlog import Call
from workers.embedding.batching.batch_queue import Line, Load
from workers.embedding.batching.grouping import Budget, Chooser, choose
from workers.embedding.batching.stages import ItemT, OutOfMemory, PreparedT, RawT, StagedModel
from workers.embedding.batching.steps import Steps

log = structlog.get_logger(__name__)

_BATCHES_FORWARDED: Final = 2
"""One being finished, and one between it and those on a device, should finishing once take longer."""

_ROOM_BATCHES: Final = 3
"""Prepared items that wait, in full batches: the more, the less padding, and the more memory."""

_PREPARE_THREADS: Final = max(2, min(8, (os.cpu_count() or 2) // 2))
_CLOSE_S: Final = 30.0


class Batcher(Generic[ItemT, PreparedT, RawT]):
    """Runs a StagedModel for many callers at a time. Its threads start at once; `close` ends them."""

    def __init__(
        self,
        model: StagedModel[ItemT, PreparedT, RawT],
        *,
        batch_cost: int,
        wait_ms: float = 10.0,
        prepare_threads: int = _PREPARE_THREADS,
        forward_threads: int = 1,
        choose: Chooser = choose,
    ) -> None:
        """`batch_cost`: what a batch may cost, padding included; an item that costs more goes alone.

        `wait_ms`: how long an idle device waits for a fuller batch while more items are being prepared.
        `forward_threads`: more than one only for a model whose `forward` several threads may call at once.
        `choose`: which of those that wait make the next batch.
        """
        self._model = model
        self._budget = Budget(batch_cost)
        self._line = Line[ItemT, PreparedT](room=_ROOM_BATCHES * batch_cost, wait_s=wait_ms / 1000, choose=choose)
        self._budget_lock = threading.Lock()
        self._places = threading.Semaphore(forward_threads + _BATCHES_FORWARDED)
        self._forwarded = SimpleQueue[tuple[Load[ItemT, PreparedT], RawT] | None]()
        self._forwards_left = forward_threads
        self._why_closed = "the embedder has been closed"
        self.steps = Steps()
        metrics.BATCH_BUDGET.set(batch_cost)
        steps = [(f"prepare-{number}", self._prepare) for number in range(prepare_threads)]
        steps += [(f"forward-{number}", self._forward) for number in range(forward_threads)]
        steps += [("finish", self._finish)]
        # Daemons: a device that hangs must not keep the process from ending.
        self._threads = [
            threading.Thread(target=self._repeat, args=(step,), name=f"embed-{name}", daemon=True)
            for name, step in steps
        ]
        for thread in self._threads:
            thread.start()

    async def embed(self, items: Sequence[ItemT], *, urgent: bool = False) -> list[Vectors]:
        """The vectors of each item, in order. Waits for its turn, however long that takes; `urgent` goes first.

        Raises the first error of any of the items, always an IngestError: what the model raised, if it was one,
        DeviceMemoryExhausted for an item that does not fit the device even alone, otherwise WorkerFault, also when the
        batcher is closed. After an error or a cancellation, what has not reached the device is dropped.
        """
        if not items:
            return []
        call = Call(items, urgent=urgent)
        if not self._line.enter(call):
            raise WorkerFault(self._why_closed, stage="embed")
        try:
            return await call.result
        finally:
            self._line.leave(call)

    async def close(self) -> None:
        """Fail whoever still waits, and end the threads once the device is through. Safe to repeat."""
        self._fail_all(WorkerFault(self._why_closed, stage="embed"))
        await asyncio.to_thread(self._join)

    def _fail_all(self, error: IngestError) -> None:
        for call in self._line.close():
            call.fail(error)

    def _join(self) -> None:
        deadline = time.monotonic() + _CLOSE_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if hanging := [thread.name for thread in self._threads if thread.is_alive()]:
            log.warning("the device does not answer", threads=hanging)

    def _repeat(self, step: Callable[[], bool]) -> None:
        """A thread: repeats its step until that returns False."""
        try:
            while step():
                pass
        except BaseException as error:  # a thread that ended unseen would leave everybody waiting
            log.exception("the batcher is broken")
            self._why_closed = f"the embedder has broken down: {type(error).__name__}: {error}"
            self._fail_all(_in_our_terms(error))
            self._places.release()
            self._forwarded.put(None)

    def _prepare(self) -> bool:
        taken = self._line.take_item()
        if taken is None:
            return False
        ticket, item = taken
        try:
            with self.steps.step():
                prepared = self._model.prepare(item)
        except Exception as error:  # noqa: BLE001 - handed to the caller
            self._line.spoiled(ticket)
            ticket.call.fail(_in_our_terms(error))
        else:
            self._line.put(ticket, prepared)
        return True

    def _forward(self) -> bool:
        self._places.acquire()
        load = self._line.take_batch(self._budget.current)
        if load is None:
            self._places.release()  # for another thread of this step, which has to end too
            self._forwarded.put(None)
            return False
        started = time.monotonic()
        try:
            with self.steps.step():
                passed_on = self._run(load)
        finally:
            metrics.DEVICE_BUSY.inc(time.monotonic() - started)
        if not passed_on:
            self._places.release()
        return True

    def _run(self, load: Load[ItemT, PreparedT]) -> bool:
        """True where `finish` has it now; otherwise its items have failed, or wait again for smaller batches."""
        alone = len(load.tickets) == 1
        for _ in range(2 if alone else 1):  # alone it has another chance, after the cache has been given back
            try:
                raw = self._model.forward([ticket.prepared for ticket in load.tickets])
            except OutOfMemory as error:
                reason = str(error)
            except Exception as error:  # noqa: BLE001 - handed to the callers
                load.fail(_in_our_terms(error))
                return False
            else:
                self._forwarded.put((load, raw))
                self._fitted(load)
                return True
            # Not above, where the exception still holds on to the frames of the forward and what is in them.
            metrics.OUT_OF_MEMORY.inc()
            self._model.on_out_of_memory()
        if alone:
            log.warning("an item does not fit the device", patches=load.cost, cause=reason)
            load.fail(DeviceMemoryExhausted(f"{load.cost} patches do not fit the device: {reason}", stage="embed"))
        else:
            self._did_not_fit(load, reason)
        return False

    def _did_not_fit(self, load: Load[ItemT, PreparedT], reason: str) -> None:
        with self._budget_lock:
            self._budget.did_not_fit(load.cost)
        metrics.BATCH_BUDGET.set(self._budget.current)
        log.warning("out of memory", patches=load.cost, patches_from_now=self._budget.current, cause=reason)
        self._line.put_back(load.tickets)

    def _fitted(self, load: Load[ItemT, PreparedT]) -> None:
        with self._budget_lock:
            self._budget.fitted(full=load.is_full)
        metrics.BATCH_BUDGET.set(self._budget.current)
        metrics.BATCH_ITEMS.observe(len(load.tickets))
        metrics.BATCH_COST.observe(load.cost)
        metrics.PADDING.inc(load.padding)
        for waited_s in load.waited_s:
            metrics.BATCH_WAIT.observe(waited_s)

    def _finish(self) -> bool:
        forwarded = self._forwarded.get()
        if forwarded is None:
            self._forwards_left -= 1
            return self._forwards_left > 0
        load, raw = forwarded
        try:
            with self.steps.step():
                found = self._model.finish(raw, [ticket.prepared for ticket in load.tickets])
            for ticket, vectors in zip(load.tickets, found, strict=True):
                ticket.call.deliver(ticket.index, vectors)
        except Exception as error:  # noqa: BLE001 - handed to the callers
            load.fail(_in_our_terms(error))
        self._places.release()
        return True


def _in_our_terms(error: BaseException) -> IngestError:
    """An IngestError as it is, anything else as a WorkerFault.

    The frames of its traceback lose their variables, the model's tensors among them, which an error that somebody
    keeps would otherwise keep too.
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
