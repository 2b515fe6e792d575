"""Supervised background tasks: they are restarted after any end, and the log says why."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from ingestion import metrics
from ingestion.concurrency.supervision import TaskSupervisor
from tests.support.waiting import wait_for

_STARTS = re.compile(r"\b(?:create_task|ensure_future|create_task_group)\(")


@pytest.fixture
async def background(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TaskSupervisor]:
    monkeypatch.setattr("ingestion.concurrency.supervision._FIRST_PAUSE_S", 0.001)
    async with TaskSupervisor() as tasks:
        yield tasks


class Work:
    """Ends as `ending` says the first times, and then goes on for ever."""

    def __init__(self, ending: Callable[[], object], times: int = 2) -> None:
        self._ending = ending
        self._times = times
        self.runs = 0

    async def __call__(self) -> None:
        self.runs += 1
        if self.runs <= self._times:
            self._ending()
            return
        await asyncio.Event().wait()


def fail() -> None:
    raise KeyError("nobody foresaw this")


def cancelled_by_a_library() -> None:
    raise asyncio.CancelledError


def restarts(name: str) -> float:
    return metrics.BACKGROUND_RESTARTS.labels(name)._value.get()


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        (fail, "background task failed"),
        (lambda: None, "background task returned"),
        (cancelled_by_a_library, "background task was cancelled from within"),
    ],
)
async def test_a_background_task_that_ends_early_is_logged_counted_and_restarted(
    background: TaskSupervisor, ending: Callable[[], object], said: str
) -> None:
    work, before = Work(ending), restarts("work")
    with capture_logs() as logs:
        background.run_forever("work", work)
        await wait_for(lambda: work.runs == 3)
    assert [(line["event"], line["task"]) for line in logs] == [(said, "work")] * 2
    assert restarts("work") == before + 2
    if ending is not fail:
        return
    assert all(line["exc_info"] for line in logs), "with its traceback"


async def test_a_failed_task_is_restarted_and_a_finished_one_is_not(background: TaskSupervisor) -> None:
    work = Work(fail, times=1)
    ended = asyncio.Event()

    async def fail_once_then_end() -> None:
        if work.runs == 1:
            ended.set()
            work.runs += 1
            return
        await work()

    background.run_until_done("work", fail_once_then_end)
    await wait_for(ended.is_set)
    await asyncio.sleep(0.02)
    assert work.runs == 2


async def test_a_task_that_never_failed_counts_zero_restarts(background: TaskSupervisor) -> None:
    """An alert on the increase needs the series before the first restart."""
    background.run_forever("quiet", asyncio.Event().wait)
    await wait_for(lambda: REGISTRY.get_sample_value("background_restarts_total", {"task": "quiet"}) == 0)


async def test_stop_ends_all_of_them() -> None:
    tasks, work = TaskSupervisor(), Work(fail, times=0)
    tasks.run_forever("one", work)
    tasks.run_forever("two", work)
    await wait_for(lambda: work.runs == 2)
    async with asyncio.timeout(10):
        await tasks.stop()


_AWAITED = {
    "ingestion/concurrency/request_batching.py",
    "ingestion/concurrency/tasks.py",
    "ingestion/http/disconnect.py",
    "ingestion/http/server.py",
    "ingestion/adapters/threads.py",
    "ingestion/sandbox/pool.py",
    "ingestion/sandbox/client.py",
    "ingestion/sandbox/process.py",
    "ingestion/concurrency/shared_calls.py",
    "ingestion/search/segment_reader.py",
    "ingestion/webhooks/deliverer.py",
    "ingestion/keys/quotas.py",
    "ingestion/viewing/images.py",
    "ingestion/adapters/kafka/membership.py",
    "ingestion/adapters/kafka/publisher.py",
    "ingestion/concurrency/supervision.py",
    "workers/bench/load.py",
    "workers/bench/sampling.py",
    "workers/commands/documents/ingest.py",
    "workers/commands/interruption.py",
    "workers/commands/up.py",
    "workers/attempt/lease.py",
    "workers/consumer/admission.py",
    "workers/consumer/loop.py",
    "workers/reembed/hold_renewal.py",
    "workers/migrations/migrator.py",
    "workers/stack/supervise.py",
    "workers/validation/proxy.py",
}
"""Where tasks are started whose end another task waits for, or has a callback for."""


def test_every_background_task_is_supervised() -> None:
    root = Path(__file__).parents[2]
    paths = [path for package in ("ingestion", "workers") for path in (root / package).rglob("*.py")]
    found = {str(path.relative_to(root)) for path in paths if _STARTS.search(path.read_text())}
    assert found <= _AWAITED, (
        "start it with ingestion.concurrency.supervision.TaskSupervisor, or list the file if its end is noticed"
    )
