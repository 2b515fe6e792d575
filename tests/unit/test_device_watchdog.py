"""A device that hangs under an embedding service, told from one that is slow, idle or frozen with its process."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.serving import HeldEmbedder
from workers.embedding.batching.activity import ActivityTracker
from workers.embedding.device_watchdog import DeviceWatchdog
from workers.embedding.serving.model import MonitoredModel
from workers.embedding.serving.service_errors import ModelLost
from workers.runtime.awake_clock import AwakeClock

FLOOR_S = 180.0


class Device:
    """Steps that take as long as a test says, on a clock of its own."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.activity = ActivityTracker()
        self.causes: list[str] = []
        clock = AwakeClock(lambda: self.now_s)
        self.watchdog = DeviceWatchdog(
            self.activity, floor_s=FLOOR_S, factor=20, on_hang=self.causes.append, clock=clock
        )

    def spend(self, seconds: float) -> None:
        for _ in range(round(2 * seconds)):
            self.now_s += 0.5
            self.watchdog.check()

    def work(self, seconds: float) -> None:
        with self.activity.track():
            self.spend(seconds)
        self.spend(0.5)


def test_a_step_that_does_not_end_is_reported_once() -> None:
    device = Device()
    device.work(1)
    with device.activity.track():
        device.spend(FLOOR_S - 5)
        assert not device.causes
        device.spend(FLOOR_S)
    assert len(device.causes) == 1


def test_a_slow_device_has_a_limit_of_its_own() -> None:
    device = Device()
    device.work(60)
    device.work(60)
    device.work(1000)
    assert not device.causes


def test_the_first_step_may_take_long() -> None:
    device = Device()
    device.work(600)
    assert not device.causes


def test_a_device_without_work_does_not_hang() -> None:
    device = Device()
    device.work(1)
    device.spend(10_000)
    assert not device.causes


def test_time_in_which_the_process_stood_still_does_not_count() -> None:
    device = Device()
    device.work(1)
    with device.activity.track():
        device.spend(10)
        device.now_s += 100_000
        device.spend(10)
    assert not device.causes


async def test_a_model_that_is_given_up_refuses_at_once_and_is_not_tried_again() -> None:
    embedder = HeldEmbedder()
    now_s = 1000.0
    model = MonitoredModel(embedder, lambda: now_s)
    embedder.hold()
    model.mark_lost("the device hangs")
    for _ in range(3):
        now_s += 100
        with pytest.raises(ModelLost, match="the device hangs"):
            await model.check()
        with pytest.raises(ModelLost, match="the device hangs"):
            await model.embed_queries(["pump"])
    assert not embedder.seen


_PROCESS = """
import asyncio, threading
from ingestion.settings import WorkerSettings
from tests.support.serving import HeldEmbedder
from workers.embedding import device_watchdog
from workers.embedding.serving.model import MonitoredModel
from workers.embedding.serving.service_errors import ModelLost
from workers.embedding.batching.activity import ActivityTracker

device_watchdog._FIRST_OPERATION_S = device_watchdog._EXIT_S = 0.5

async def main():
    activity, model = ActivityTracker(), MonitoredModel(HeldEmbedder())
    def forward():
        with activity.track():
            threading.Event().wait()
    hanging = asyncio.get_running_loop().run_in_executor(None, forward)
    watchdog = device_watchdog.watch_device(WorkerSettings(stall_s=0.5), activity, model)
    watching = asyncio.create_task(watchdog.run())
    while True:
        try:
            await model.check()
        except ModelLost:
            print("refused", flush=True)
            break
        await asyncio.sleep(0.05)
    await hanging

asyncio.run(main())
"""


def test_the_process_says_that_the_model_is_lost_and_ends_with_the_stacks_of_its_threads() -> None:
    done = subprocess.run([sys.executable, "-c", _PROCESS], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1, done.stderr
    assert "refused" in done.stdout
    assert "in forward" in done.stderr


_REEMBEDDING = """
import asyncio
from types import SimpleNamespace
from ingestion.settings import WorkerSettings
from workers.commands.collections import reembedding
from workers.embedding import device_watchdog
from workers.embedding.batching.activity import ActivityTracker

device_watchdog._FIRST_OPERATION_S = 0.1
reembedding._EXIT_S = 0.1

async def embed_for_ever():
    activity = ActivityTracker()
    settings = WorkerSettings().model_copy(update={"stall_s": 0.5})
    async with reembedding._watched(SimpleNamespace(activity=activity), settings):
        with activity.track():
            await asyncio.Event().wait()

asyncio.run(embed_for_ever())
"""


def test_a_reembedding_ends_where_its_device_hangs() -> None:
    run = subprocess.run([sys.executable, "-c", _REEMBEDDING], capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 1
    assert "one operation has kept the device" in run.stderr and "run the command again" in run.stderr
