"""Faults of servers and of the network: no document may lose an attempt."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import psutil

from tests.chaos.documents import heavy, several
from tests.chaos.experiment import Experiment, experiment
from tests.chaos.proxy import DISK_FULL, REFUSED, SILENT, Fault
from tests.chaos.rig import Rig
from tests.chaos.waiting import until_async

_EMBEDDER_TIMEOUT_S: Final = 1.5

OUTAGES: Final = {
    "milvus down": ("milvus", REFUSED, "milvus"),
    "mongodb down": ("mongo", REFUSED, "mongodb"),
    "s3 down": ("s3", REFUSED, "s3"),
    "redis down": ("redis", REFUSED, "redis"),
    "kafka down": ("kafka", REFUSED, "kafka"),
    "milvus silent": ("milvus", SILENT, "milvus"),
    "mongodb silent": ("mongo", SILENT, "mongodb"),
    "s3 silent": ("s3", SILENT, "s3"),
    "kafka silent": ("kafka", SILENT, "kafka"),
    "s3 disk full": ("s3", DISK_FULL, "s3"),
    "embedder down": ("embedder", REFUSED, "embedder"),
    "embedder silent": ("embedder", SILENT, "embedder"),
    "embedder slow": ("embedder", Fault(delay_s=2 * _EMBEDDER_TIMEOUT_S), "embedder"),
}
"""Outage -> (server, its fault, its name in /ready)."""

_BEGUN_S: Final = 90.0
_NAMED_S: Final = 150.0
_DRAINED_S: Final = 180.0
_MEMORY_BYTES: Final = 600 * 1024**2


async def outages(
    servers: Mapping[str, str],
    folder: Path,
    *,
    of: Sequence[str],
    down_s: float,
    documents: int,
    workers: int = 2,
) -> Experiment:
    """Inject each outage of `of` during the work, for at least `down_s` and until a worker's /ready reports it.

    Work that needs the server waits and continues after the outage.
    """
    one_by_one = {
        "PAGEMILL_LEASE_S": "10",
        "PAGEMILL_MILVUS_TIMEOUT_S": "15",
        "PAGEMILL_EMBEDDER_TIMEOUT_S": str(_EMBEDDER_TIMEOUT_S),
        "PAGEMILL_JOBS_IN_FLIGHT": "1",
    }
    async with experiment(", ".join(of), servers, folder, embed_s=0.3, worker=one_by_one) as run:
        rig = run.rig
        await rig.fleet.start(workers)
        for name in of:
            server, fault, dependency = OUTAGES[name]
            before = len(rig.sources)
            await rig.submit(several(documents, pages=4, prefix=f"n{before}n"))
            await _settled(rig, before + 1)
            with rig.proxies[server].broken(fault):
                await rig.submit(several(2, pages=4, prefix=f"late{before}n"))
                await asyncio.gather(asyncio.sleep(down_s), named_in_ready(rig, dependency))
            await rig.all_settled(_DRAINED_S)
            run.runs += 1
        result = await run.conclude()
        run.expect(result.attempts_burnt == 0, f"{result.attempts_burnt} attempts burnt")
    return run


async def slow_and_broken_s3(
    servers: Mapping[str, str],
    folder: Path,
    *,
    documents: int,
    size_bytes: int,
    bytes_per_s: float,
    workers: int = 2,
) -> Experiment:
    """Slow down the object store, and reset its connections in the middle of a body."""
    async with experiment(f"s3 at {bytes_per_s / 1000:g} KB/s, reset", servers, folder) as run:
        rig = run.rig
        await rig.fleet.start(workers)
        with rig.proxies["s3"].broken(Fault(delay_s=0.05, bytes_per_s=bytes_per_s, reset_after_bytes=size_bytes)):
            await rig.submit([heavy(f"heavy{number}", size_bytes) for number in range(documents)])
            await rig.all_settled(_DRAINED_S + documents * size_bytes / bytes_per_s)
            peak_bytes = max(psutil.Process(worker.pid).memory_info().rss for worker in rig.fleet.running)
            run.expect(peak_bytes < _MEMORY_BYTES, f"a worker holds {peak_bytes >> 20} MiB")
            run.runs = rig.proxies["s3"].broken_off
            run.expect(run.runs > 0, "no connection was reset")
        result = await run.conclude()
        run.expect(result.attempts_burnt == 0, f"{result.attempts_burnt} attempts burnt")
    return run


async def _settled(rig: Rig, count: int) -> None:
    async def are_settled() -> bool:
        return await rig.settled() >= count

    await until_async(are_settled, _BEGUN_S, f"{count} documents settled")


async def named_in_ready(rig: Rig, dependency: str) -> None:
    """Wait until a worker's /ready names the server."""

    async def is_named() -> bool:
        return any([dependency in await worker.outages() for worker in rig.fleet.running])

    await until_async(is_named, _NAMED_S, f"a worker's /ready names {dependency}")
