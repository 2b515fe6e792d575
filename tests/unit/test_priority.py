"""Threads that compute have a lower priority than the event loop."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from ingestion.concurrency.priority import NICE
from ingestion.search.cpu_threads import CpuThreads

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a niceness of each thread")


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


async def test_cpu_work_of_searches_has_a_lower_priority_than_the_event_loop() -> None:
    before = niceness()
    cpu = CpuThreads()
    for _ in range(2):
        assert await cpu.run(niceness) == max(NICE, before)
    assert niceness() == before
