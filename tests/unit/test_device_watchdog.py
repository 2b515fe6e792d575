"""The device watchdog: it reports a hung device, and no slow, idle or suspended one."""

from __future__ import annotations

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
