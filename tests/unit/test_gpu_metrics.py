"""The metrics of GPUs, with a stand-in for NVML."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import isnan
from types import SimpleNamespace

import pytest
from prometheus_client import REGISTRY

from tests.support.waiting import wait_until
from workers.runtime import gpu_metrics as module
from workers.runtime.gpu_metrics import GpuReader, gpu_metrics

GIB = 1024**3


class FakeError(Exception):
    """NVMLError."""


@dataclass
class FakeNvml:
    """`pynvml`, as far as the project uses it."""

    used: list[int]
    has_driver: bool = True
    is_lost: bool = False
    lost_gpu: int | None = None
    reports_utilisation: bool = True
    NVMLError: type[Exception] = field(default=FakeError)

    def nvmlInit(self) -> None:
        if not self.has_driver:
            raise FakeError("Driver Not Loaded")

    def nvmlDeviceGetCount(self) -> int:
        if self.is_lost:
            raise FakeError("GPU is lost")
        return len(self.used)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        if index == self.lost_gpu:
            raise FakeError("GPU is lost")
        return index

    def nvmlDeviceGetUUID(self, handle: int) -> str | bytes:
        return f"GPU-{handle}" if handle else b"GPU-0"

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:
        return SimpleNamespace(used=self.used[handle], total=24 * GIB)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> SimpleNamespace:
        if not self.reports_utilisation:
            raise FakeError("Not Supported")
        return SimpleNamespace(gpu=50 + handle)


def value_of(name: str, gpu: int) -> float | None:
    return REGISTRY.get_sample_value(name, {"gpu": str(gpu), "uuid": f"GPU-{gpu}"})


@pytest.fixture
def nvml() -> Iterator[FakeNvml]:
    fake = FakeNvml([2 * GIB, 23 * GIB])
    yield fake
    for gauge in module._GAUGES:
        gauge.clear()


def test_memory_and_utilisation_of_each_gpu_are_shown(nvml: FakeNvml) -> None:
    GpuReader(nvml).read()
    assert [value_of("gpu_memory_usage_bytes", gpu) for gpu in (0, 1)] == [2 * GIB, 23 * GIB]
    assert [value_of("gpu_memory_total_bytes", gpu) for gpu in (0, 1)] == [24 * GIB, 24 * GIB]
    assert [value_of("gpu_utilization_ratio", gpu) for gpu in (0, 1)] == [0.5, 0.51]


def test_a_gpu_that_does_not_report_its_utilisation_still_shows_its_memory(nvml: FakeNvml) -> None:
    nvml.reports_utilisation = False
    GpuReader(nvml).read()
    assert value_of("gpu_memory_usage_bytes", 0) == 2 * GIB
    utilisation = value_of("gpu_utilization_ratio", 0)
    assert utilisation is not None
    assert isnan(utilisation)


def test_a_gpu_that_is_lost_has_no_series_until_it_is_back(nvml: FakeNvml) -> None:
    reader = GpuReader(nvml)
    reader.read()
    nvml.is_lost = True
    reader.read()
    reader.read()
    assert value_of("gpu_memory_usage_bytes", 1) is None
    nvml.is_lost = False
    reader.read()
    assert value_of("gpu_memory_usage_bytes", 1) == 23 * GIB


def test_a_gpu_that_is_lost_hides_no_other(nvml: FakeNvml) -> None:
    reader = GpuReader(nvml)
    reader.read()
    nvml.lost_gpu = 0
    reader.read()
    assert [value_of("gpu_memory_usage_bytes", gpu) for gpu in (0, 1)] == [None, 23 * GIB]


def test_gpus_are_measured_during_the_block(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml)  # type: ignore[arg-type]
    monkeypatch.setattr(module, "_EVERY_S", 0.01)
    with gpu_metrics():
        wait_until(lambda: value_of("gpu_memory_usage_bytes", 0) == 2 * GIB, 10)
        nvml.used[0] = 3 * GIB
        wait_until(lambda: value_of("gpu_memory_usage_bytes", 0) == 3 * GIB, 10)


def test_nvml_has_the_functions_of_the_stand_in() -> None:
    pynvml = pytest.importorskip("pynvml")
    names = {name for name in dir(FakeNvml) if name.startswith("nvml")} | {"NVMLError"}
    assert {name for name in names if not hasattr(pynvml, name)} == set()


@pytest.mark.parametrize("fake", [None, FakeNvml([], has_driver=False)])
def test_a_machine_without_a_gpu_has_no_series(fake: FakeNvml | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", fake)  # type: ignore[arg-type]
    with gpu_metrics():
        assert value_of("gpu_memory_usage_bytes", 0) is None
