"""Metrics of the GPUs of this machine: memory and utilisation, read by NVML.

A thread reads them: a driver that hangs must not block the event loop or a scrape.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import structlog

from ingestion import metrics

log = structlog.get_logger(__name__)

_EVERY_S: Final = 5.0
_STOP_S: Final = 1.0
"""A thread in a driver that hangs is left behind: it is a daemon."""
_GAUGES: Final = (metrics.GPU_MEMORY, metrics.GPU_MEMORY_TOTAL, metrics.GPU_UTILISATION)

Labels = tuple[str, str]
"""(index of the GPU, its UUID)."""


@contextmanager
def gpu_metrics() -> Iterator[None]:
    """Measure all GPUs during the block. Has no effect on a machine without a GPU, or without `nvidia-ml-py`."""
    nvml = _open_nvml()
    if nvml is None:
        yield
        return
    reader, stopping = GpuReader(nvml), threading.Event()
    thread = threading.Thread(target=_run, args=(reader, stopping), name="gpu metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join(_STOP_S)


def _open_nvml() -> Any:
    """The module `pynvml`, initialised. None where it, the driver or a GPU is missing."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except ImportError as error:
        log.debug("GPUs are not measured", cause=str(error))
        return None
    except pynvml.NVMLError as error:
        log.debug("GPUs are not measured", cause=str(error))
        return None
    return pynvml


def _run(reader: GpuReader, stopping: threading.Event) -> None:
    reader.read()
    while not stopping.wait(_EVERY_S):
        reader.read()


class GpuReader:
    """Sets the gauges of every GPU that NVML names. A GPU that cannot be read has no series until it can."""

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self._shown: set[Labels] = set()
        self._has_failed = False

    def read(self) -> None:
        """Raises nothing: the first failure of a series of failures is logged."""
        found: set[Labels] = set()
        failures: list[str] = []
        try:
            for index in range(self._nvml.nvmlDeviceGetCount()):
                try:
                    found.add(self._read_gpu(index))
                except self._nvml.NVMLError as error:
                    failures.append(f"GPU {index}: {error}")
        except self._nvml.NVMLError as error:
            failures.append(str(error))
        if failures and not self._has_failed:
            log.warning("GPUs cannot be measured", cause="; ".join(failures))
        self._has_failed = bool(failures)
        for labels in self._shown - found:
            for gauge in _GAUGES:
                gauge.remove(*labels)
        self._shown = found

    def _read_gpu(self, index: int) -> Labels:
        handle = self._nvml.nvmlDeviceGetHandleByIndex(index)
        labels = str(index), _text(self._nvml.nvmlDeviceGetUUID(handle))
        memory = self._nvml.nvmlDeviceGetMemoryInfo(handle)
        metrics.GPU_MEMORY.labels(*labels).set(memory.used)
        metrics.GPU_MEMORY_TOTAL.labels(*labels).set(memory.total)
        try:
            percent = self._nvml.nvmlDeviceGetUtilizationRates(handle).gpu
        except self._nvml.NVMLError:  # a GPU in MIG mode does not report it
            percent = float("nan")
        metrics.GPU_UTILISATION.labels(*labels).set(percent / 100)
        return labels


def _text(value: str | bytes) -> str:
    """Older versions of the library return bytes."""
    return value.decode() if isinstance(value, bytes) else value
