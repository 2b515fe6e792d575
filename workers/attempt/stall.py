"""Ends attempts that make no progress, although their heartbeats go on.

An attempt reports the stage that it is in. It is ended when that stage makes no progress for longer than its limit.
Progress of one attempt in a stage counts for all attempts in that stage, because they share the device or the server
that does the work. So do batches of the embedder: an attempt that only waits for its turn does not stall.

    limit = factor x the usual gap between two signs of progress in that stage lately, but at least a floor
"""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from ingestion import metrics
from ingestion.concurrency.cancellation import is_stray_cancellation
from ingestion.errors import IngestError, Stalled, WorkerFault
from ingestion.tracing import span
from workers.runtime.awake_clock import TICK_S, AwakeClock

log = structlog.get_logger(__name__)

_GAPS_KEPT: Final = 64
_USUAL: Final = 0.9
"""The quantile of the gaps that is taken as usual: an outage or a burst of work should not count for long."""
_LONGEST_S: Final = 3600.0
_MAX_OWN_LIMITS: Final = 10.0
"""After so many limits an operation has stalled, even where others of its stage make progress."""

ProgressMark = Callable[[], object]
"""Returns a value that changes with each sign of progress: a counter, a size."""


@dataclass(slots=True, eq=False)
class _Operation:
    stage: str
    began_s: float
    mark: ProgressMark | None
    seen: object
    moved_s: float


@dataclass(slots=True, eq=False)
class WatchedAttempt:
    """One attempt, with the operations that it is in now."""

    stalls: StallDetector
    abort: Callable[[Stalled], None]
    idle_since_s: float
    operations: set[_Operation] = field(default_factory=set)
    aborted_s: float | None = None

    @contextmanager
    def stage(self, stage: str, mark: ProgressMark | None = None, *, step: str = "") -> Iterator[None]:
        """The block is an operation of the stage. Its end is progress, and so is each change of `mark()`.

        Its span is named after the `step`, or the stage.

        An IngestError without a stage gets this one. Any other exception becomes a WorkerFault.
        """
        now_s = self.stalls.clock.now_s()
        operation = _Operation(stage, now_s, mark, mark() if mark else None, now_s)
        self.stalls.began(stage)
        self.operations.add(operation)
        try:
            with span(step or stage), _errors_named(stage):
                yield
            if self.aborted_s is None:  # an operation that ended too late is no measure
                self.stalls.progressed(stage)
        finally:
            self.operations.discard(operation)
            self.idle_since_s = self.stalls.clock.now_s()
            self.stalls.ended(stage)


class StallDetector:
    """Watches the attempts of one worker. Only `run` and `check` end attempts.

    `on_hang` is called once, with the cause, where a thread hangs and only the end of this process helps.
    """

    def __init__(
        self,
        *,
        floor_s: float = 180.0,
        factor: float = 20.0,
        on_hang: Callable[[str], None] = lambda cause: None,
        clock: AwakeClock | None = None,
    ) -> None:
        self._floor_s = floor_s
        self._factor = factor
        self._floors_s: dict[str, float] = {}
        self._marks: dict[str, ProgressMark] = {}
        self._device: ProgressMark | None = None
        self._on_hang = on_hang
        self.clock = clock or AwakeClock()
        self._attempts: set[WatchedAttempt] = set()
        self._gaps_s: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_GAPS_KEPT))
        self._at_work: defaultdict[str, int] = defaultdict(int)
        self._progressed_s: dict[str, float] = {}
        self._seen: dict[str, object] = {}
        self._step: object = None
        self._step_s = 0.0
        self._is_hung = False

    def share_progress(self, stage: str, mark: ProgressMark) -> None:
        """Each change of `mark()` is progress of all attempts in the stage."""
        self._marks[stage], self._seen[stage] = mark, mark()

    def watch_device(self, step: ProgressMark) -> None:
        """`step()` returns the same object while the embedder's device is at the same step, None while it is idle."""
        self._device = step

    def limit_s(self, stage: str) -> float:
        """How long the stage may make no progress, as measured so far."""
        gaps_s = sorted(self._gaps_s[stage]) or [0.0]
        usual_s = gaps_s[math.ceil(_USUAL * len(gaps_s)) - 1]
        return max(self._floors_s.get(stage, self._floor_s), min(self._factor * usual_s, _LONGEST_S))

    def set_floor(self, stage: str, seconds: float) -> None:
        """Let the stage's limit never be less than `seconds`."""
        self._floors_s[stage] = max(seconds, self._floor_s)

    def add_gap(self, stage: str, seconds: float) -> None:
        """Count `seconds` as a measured gap, so that the limit fits a slow device from the first document on."""
        self._gaps_s[stage].append(seconds)

    @contextmanager
    def watch(self, abort: Callable[[Stalled], None]) -> Iterator[WatchedAttempt]:
        """Watch the operations of the block. `abort` is called at most once, and has to end the block soon."""
        attempt = WatchedAttempt(self, abort, self.clock.now_s())
        self._attempts.add(attempt)
        try:
            yield attempt
        finally:
            self._attempts.discard(attempt)

    async def run(self) -> None:
        """Check all attempts every `TICK_S`. Ends when cancelled."""
        while True:
            await asyncio.sleep(TICK_S)
            self.check()

    def check(self) -> None:
        """Abort attempts that have stalled, and report a thread that hangs."""
        self.clock.tick()
        self._read_marks()
        for attempt in list(self._attempts):
            if attempt.aborted_s is not None:
                self._check_aborted(attempt)
            elif (stalled := self._stalled(attempt)) is not None:
                attempt.aborted_s = self.clock.now_s()
                metrics.STALLS.labels(stalled.stage).inc()
                attempt.abort(stalled)
        self._check_device()

    def began(self, stage: str) -> None:
        if stage not in self._at_work:
            metrics.STALLS.labels(stage)  # the series begins at 0: an alert sees its first increase
        if not self._at_work[stage]:  # while a stage has no work it makes no progress
            self._progressed_s[stage] = self.clock.now_s()
        self._at_work[stage] += 1

    def ended(self, stage: str) -> None:
        self._at_work[stage] -= 1

    def progressed(self, stage: str) -> None:
        now_s = self.clock.now_s()
        self._gaps_s[stage].append(now_s - self._progressed_s[stage])
        self._progressed_s[stage] = now_s

    def _read_marks(self) -> None:
        for stage, mark in self._marks.items():
            current = mark()
            if current != self._seen[stage]:
                self._seen[stage] = current
                if self._at_work[stage]:
                    self.progressed(stage)
        for attempt in self._attempts:
            for operation in attempt.operations:
                if operation.mark is not None and (current := operation.mark()) != operation.seen:
                    operation.seen, operation.moved_s = current, self.clock.now_s()

    def _stalled(self, attempt: WatchedAttempt) -> Stalled | None:
        now_s = self.clock.now_s()
        if not attempt.operations and now_s - attempt.idle_since_s > self._floor_s:
            return Stalled(f"the attempt did nothing for {now_s - attempt.idle_since_s:.0f} s", stage="ingest")
        for operation in attempt.operations:
            limit_s = self.limit_s(operation.stage)
            own_s = now_s - operation.moved_s
            stage_s = min(own_s, now_s - self._progressed_s[operation.stage])
            if stage_s > limit_s or own_s > _MAX_OWN_LIMITS * limit_s:
                return Stalled(
                    f"no progress for {own_s:.0f} s, with a limit of {limit_s:.0f} s", stage=operation.stage
                )
        return None

    def _check_aborted(self, attempt: WatchedAttempt) -> None:
        assert attempt.aborted_s is not None
        if self.clock.now_s() - attempt.aborted_s > self._grace_s:
            self._hung("an attempt that has stalled does not end: a thread of this process hangs")

    def _check_device(self) -> None:
        now_s, step = self.clock.now_s(), self._device() if self._device else None
        if step is None or step != self._step:
            self._step, self._step_s = step, now_s
        elif now_s - self._step_s > self.limit_s("embed") + self._grace_s:
            self._hung(f"the embedder's device has been at one step for {now_s - self._step_s:.0f} s")

    @property
    def _grace_s(self) -> float:
        """The time that an aborted attempt has to end. A device gets it too: its attempts are aborted first."""
        return self._floor_s / 3

    def _hung(self, cause: str) -> None:
        if not self._is_hung:
            self._is_hung = True
            log.error("worker hangs", cause=cause)
            self._on_hang(cause)


@contextmanager
def _errors_named(stage: str) -> Iterator[None]:
    try:
        yield
    except IngestError as error:
        error.stage = error.stage or stage
        raise
    except asyncio.CancelledError as error:
        if not is_stray_cancellation():
            raise
        raise WorkerFault("a library cancelled its own operation", stage=stage) from error
    except Exception as error:
        raise WorkerFault(f"{type(error).__name__}: {error}", stage=stage) from error


def bytes_in(folder: Path) -> int:
    """The size of all files in `folder`. A client fetches a file under a name of its own and renames it at the end."""
    with suppress(FileNotFoundError):  # a file was renamed, or the folder removed, at this moment
        return sum(path.stat().st_size for path in folder.iterdir())
    return 0
