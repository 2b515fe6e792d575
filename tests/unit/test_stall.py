"""Progress, stalls and their consequences. The tests set the clock."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ingestion.errors import RetryableError, Stalled, WorkerFault
from workers.attempt.stall import StallDetector, WatchedAttempt, bytes_in
from workers.runtime.awake_clock import TICK_S, AwakeClock

FLOOR_S = 90.0
GRACE_S = FLOOR_S / 3


class Worker:
    """StallDetector on a clock that only `pass_s` moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.causes: list[str] = []
        self.given_up: list[Stalled] = []
        self.stalls = StallDetector(
            floor_s=FLOOR_S, factor=20, on_hang=self.causes.append, clock=AwakeClock(lambda: self.now_s)
        )

    def pass_s(self, seconds: float) -> None:
        for _ in range(round(seconds / TICK_S)):
            self.now_s += TICK_S
            self.stalls.check()

    @contextmanager
    def attempt(self) -> Iterator[WatchedAttempt]:
        with self.stalls.watch(self.given_up.append) as attempt:
            yield attempt


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.mark.parametrize("stage", ["fetch", "render", "embed", "store"])
def test_a_stage_without_progress_ends_its_attempt_once_and_says_which(worker: Worker, stage: str) -> None:
    with worker.attempt() as attempt, attempt.stage(stage):
        worker.pass_s(FLOOR_S - 1)
        assert worker.given_up == []
        worker.pass_s(10)
    [stalled] = worker.given_up
    assert (stalled.code, stalled.stage) == ("stalled", stage)
    assert isinstance(stalled, RetryableError)


def test_an_attempt_that_is_at_nothing_at_all_stalls_as_well(worker: Worker) -> None:
    with worker.attempt() as attempt:
        with attempt.stage("render"):
            worker.pass_s(1)
        worker.pass_s(FLOOR_S - 1)
        assert worker.given_up == []
        worker.pass_s(2)
    assert [stalled.stage for stalled in worker.given_up] == ["ingest"]


def test_waiting_while_others_of_the_stage_make_progress_is_no_stall(worker: Worker) -> None:
    with worker.attempt() as waiting, waiting.stage("embed"), worker.attempt() as other:
        for _ in range(8):
            with other.stage("embed"):
                worker.pass_s(FLOOR_S / 2)
        assert worker.given_up == []


def test_waiting_for_ever_while_others_get_on_is_one(worker: Worker) -> None:
    with worker.attempt() as waiting, waiting.stage("embed"), worker.attempt() as other:
        for _ in range(3 * 10 * int(FLOOR_S)):
            with other.stage("embed"):
                worker.pass_s(TICK_S)
        assert [stalled.stage for stalled in worker.given_up] == ["embed"]


def test_progress_in_another_stage_does_not_count(worker: Worker) -> None:
    with worker.attempt() as hanging, hanging.stage("embed"), worker.attempt() as other:
        for _ in range(3):
            with other.stage("store"):
                worker.pass_s(FLOOR_S / 2)
        assert [stalled.stage for stalled in worker.given_up] == ["embed"]


def test_batches_of_the_device_count_for_all_that_wait_for_it(worker: Worker) -> None:
    batches = [0]
    worker.stalls.share_progress("embed", lambda: batches[0])
    with worker.attempt() as attempt, attempt.stage("embed"):
        for _ in range(6):
            worker.pass_s(FLOOR_S / 2)
            batches[0] += 1
        assert worker.given_up == []
        worker.pass_s(20 * FLOOR_S + 1)
        assert len(worker.given_up) == 1


def test_a_file_that_grows_is_being_fetched(worker: Worker) -> None:
    size = [0]
    with worker.attempt() as attempt, attempt.stage("fetch", lambda: size[0]):
        for _ in range(40):
            worker.pass_s(FLOOR_S / 2)
            size[0] += 1
        assert worker.given_up == []
        worker.pass_s(FLOOR_S + 1)
        assert len(worker.given_up) == 1


def test_a_slow_machine_is_given_more_time(worker: Worker) -> None:
    with worker.attempt() as attempt:
        for _ in range(5):
            with attempt.stage("embed"):
                worker.pass_s(30)
        assert worker.stalls.limit_s("embed") == pytest.approx(20 * 30)
        assert worker.stalls.limit_s("render") == FLOOR_S
        with attempt.stage("embed"):
            worker.pass_s(20 * 30 - 1)
            assert worker.given_up == []
            worker.pass_s(2)
            assert len(worker.given_up) == 1


def test_the_self_test_sets_the_stall_limit_of_the_first_document(worker: Worker) -> None:
    worker.stalls.add_gap("embed", 40)
    assert worker.stalls.limit_s("embed") == pytest.approx(20 * 40)


def test_one_long_gap_among_many_does_not_raise_the_limit(worker: Worker) -> None:
    with worker.attempt() as attempt:
        for seconds in [1] * 40 + [80]:
            with attempt.stage("store"):
                worker.pass_s(seconds)
    assert worker.stalls.limit_s("store") == FLOOR_S


def test_a_process_that_was_stopped_does_not_count_the_time(worker: Worker) -> None:
    with worker.attempt() as attempt, attempt.stage("embed"):
        worker.pass_s(1)
        worker.now_s += 100 * FLOOR_S  # SIGSTOP, or a suspended machine
        worker.pass_s(FLOOR_S - 10)
        assert worker.given_up == []
        worker.pass_s(20)
        assert len(worker.given_up) == 1


def test_an_attempt_that_does_not_end_ends_the_worker(worker: Worker) -> None:
    with worker.attempt() as attempt, attempt.stage("store"):
        worker.pass_s(FLOOR_S + GRACE_S - 1)
        assert (len(worker.given_up), worker.causes) == (1, [])
        worker.pass_s(10 * GRACE_S)
    assert len(worker.causes) == 1
    assert "does not end" in worker.causes[0]


def test_a_stage_that_ends_when_cancelled_does_not_end_the_worker(worker: Worker) -> None:
    with worker.attempt() as attempt, attempt.stage("store"):
        worker.pass_s(FLOOR_S + 1)
    worker.pass_s(10 * GRACE_S)
    assert worker.causes == []


def test_a_device_that_hangs_ends_the_worker_after_the_attempts_that_wait_for_it(worker: Worker) -> None:
    step: list[object] = [object()]
    worker.stalls.watch_device(lambda: step[0])
    with worker.attempt() as attempt, attempt.stage("embed"):
        worker.pass_s(FLOOR_S + 1)
    assert (len(worker.given_up), worker.causes) == (1, [])
    worker.pass_s(GRACE_S + 1)
    assert len(worker.causes) == 1
    assert "device" in worker.causes[0]


def test_a_device_that_goes_from_step_to_step_or_rests_is_left_alone(worker: Worker) -> None:
    step: list[object] = [None]
    worker.stalls.watch_device(lambda: step[0])
    for _ in range(4):
        worker.pass_s(FLOOR_S)
        step[0] = object()
    step[0] = None
    worker.pass_s(10 * FLOOR_S)
    assert worker.causes == []


@pytest.mark.parametrize("error", [KeyError("x"), asyncio.CancelledError()], ids=lambda error: type(error).__name__)
async def test_an_unforeseen_error_is_a_fault_of_the_stage(worker: Worker, error: BaseException) -> None:
    with worker.attempt() as attempt, pytest.raises(WorkerFault) as fault, attempt.stage("embed"):
        raise error
    assert fault.value.stage == "embed"


def test_a_folder_that_is_gone_has_no_bytes(tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(b"12345")
    assert bytes_in(tmp_path) == 5
    assert bytes_in(tmp_path / "gone") == 0
