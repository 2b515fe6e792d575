"""A process whose device hangs ends itself."""

from __future__ import annotations

import subprocess
import sys

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
