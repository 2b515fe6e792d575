"""Measure a worker: CPU by stage, CPU of the servers, memory, bytes, and the load of each stage."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil
from minio import Minio

from tests.benchmarks.rig import Bench, Worker, cpu_s
from tests.benchmarks.standin import DIM

SAMPLE_EVERY_S: Final = 0.2
_CHILD_STAGES: Final = ("render", "text", "encode")
_THREAD_STAGES: Final = ("objects", "rows")
_THREADS: Final = {"MainThread": "loop", "ThreadPoolExecutor": "records", "asyncio": "packing"}
STAGES: Final = (*_CHILD_STAGES, "child rest", "embed", "packing", *_THREAD_STAGES, "records", "loop", "other")
LEGEND: Final = """
CPU seconds a page. render, text, encode: as the render children report them, poppler's processes included; child rest:
their other CPU time, the transfer of results included. Of the worker process: embed: the batcher's threads;
packing: vectors to rows and blobs; objects, rows: the threads that write them; records: those of the MongoDB client;
loop: the event loop; other: threads of C libraries, gRPC included.
Busy: the mean number of windows being rendered, embedded and stored; device: the share of time with a batch."""


@dataclass(frozen=True)
class Snapshot:
    at: float
    worker_cpu_s: float
    """CPU and memory of the process and its children."""
    stages_cpu_s: dict[str, float]
    servers_cpu_s: dict[str, float]
    busy_s: dict[str, float]
    stored_bytes: Counter[str]
    """Bytes by the suffix of the objects' names."""


@dataclass(frozen=True)
class Usage:
    """The differences between two snapshots."""

    seconds: float
    worker_cpu_s: float
    stages_cpu_s: dict[str, float]
    servers_cpu_s: dict[str, float]
    busy: dict[str, float]
    stored_bytes: dict[str, int]
    worker_mib: float
    children_mib: float


async def snapshot(bench: Bench, worker: Worker) -> Snapshot:
    counters = await worker.counters()
    process = psutil.Process(worker.pid)
    own = process.cpu_times()
    whole_s = cpu_s(process)
    stages: dict[str, float] = defaultdict(float)
    for name in (*_CHILD_STAGES, *_THREAD_STAGES):
        stages[name] = counters.get(f'ingestion_stage_cpu_seconds_total{{stage="{name}"}}', 0.0)
    stages["child rest"] = whole_s - own.user - own.system - sum(stages[name] for name in _CHILD_STAGES)
    for name, seconds in counters.items():
        if thread := re.fullmatch(r'bench_thread_cpu_seconds_total\{thread="(.*)"\}', name):
            stages[_stage_of(thread[1])] += seconds
    stages["other"] = (
        own.user
        + own.system
        - sum(stages[name] for name in ("embed", "packing", "objects", "rows", "records", "loop"))
    )
    return Snapshot(
        at=time.monotonic(),
        worker_cpu_s=whole_s,
        stages_cpu_s=stages,
        servers_cpu_s={name: cpu_s(psutil.Process(pid)) for name, pid in bench.server_pids.items()},
        busy_s={
            "rendering": counters["conversion_duration_seconds_sum"],
            "embedding": counters["embedding_duration_seconds_sum"],
            "device": counters["embedder_device_busy_seconds_total"],
            "storing": counters["storing_duration_seconds_sum"],
        },
        stored_bytes=await asyncio.to_thread(_stored_bytes, bench),
    )


def _stage_of(thread: str) -> str:
    if thread.startswith("embed"):
        return "embed"
    return _THREADS.get(thread, "unnamed")


def _stored_bytes(bench: Bench) -> Counter[str]:
    s3 = bench.settings.s3
    client = Minio(
        s3.s3_endpoint, s3.s3_access_key, s3.s3_secret_key.get_secret_value(), secure=False, region=s3.s3_region
    )
    sizes: Counter[str] = Counter()
    for entry in client.list_objects(s3.s3_bucket, recursive=True):
        sizes[Path(str(entry.object_name)).suffix.lstrip(".")] += entry.size or 0
    return sizes


@dataclass
class Watch:
    """Samples memory during a block. An async context manager; `usage` is set after it."""

    bench: Bench
    worker: Worker
    usage: Usage | None = None
    _children_mib: float = 0.0
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def __aenter__(self) -> Watch:
        self._before = await snapshot(self.bench, self.worker)
        (Path(f"/proc/{self.worker.pid}") / "clear_refs").write_text("5")  # proc_pid_clear_refs(5): resets VmHWM
        self._began = time.monotonic()
        self._tasks.append(asyncio.create_task(self._sample()))
        return self

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        seconds = time.monotonic() - self._began
        for task in self._tasks:
            task.cancel()
        if kind is not None:
            return
        before, after = self._before, await snapshot(self.bench, self.worker)
        status = (Path(f"/proc/{self.worker.pid}") / "status").read_text()
        peak = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert peak
        self.usage = Usage(
            seconds=seconds,
            worker_cpu_s=after.worker_cpu_s - before.worker_cpu_s,
            stages_cpu_s={name: after.stages_cpu_s[name] - before.stages_cpu_s[name] for name in STAGES},
            servers_cpu_s={name: used - before.servers_cpu_s[name] for name, used in after.servers_cpu_s.items()},
            busy={name: (used - before.busy_s[name]) / seconds for name, used in after.busy_s.items()},
            stored_bytes={name: size - before.stored_bytes[name] for name, size in after.stored_bytes.items()},
            worker_mib=int(peak[1]) / 1024,
            children_mib=self._children_mib,
        )

    async def _sample(self) -> None:
        process = psutil.Process(self.worker.pid)
        while True:
            total = 0
            for child in process.children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    total += child.memory_info().rss
            self._children_mib = max(self._children_mib, total / 1024**2)
            await asyncio.sleep(SAMPLE_EVERY_S)


def show(name: str, usage: Usage, pages: int, gpu_s: float) -> None:
    rate = pages / usage.seconds
    print(f"\n{name}: {pages} pages in {usage.seconds:.1f} s, {rate:.1f} pages/s", end="")
    print(f", {rate * gpu_s:.3f} of what the device allows" if gpu_s else "")
    print(f"  CPU ms a page, worker and children: {1000 * usage.worker_cpu_s / pages:.1f}, of which ", end="")
    print(", ".join(f"{stage} {1000 * usage.stages_cpu_s[stage] / pages:.1f}" for stage in STAGES))
    servers = sum(usage.servers_cpu_s.values())
    print(f"  CPU ms a page, servers: {1000 * servers / pages:.1f}, of which ", end="")
    print(", ".join(f"{server} {1000 * used / pages:.1f}" for server, used in usage.servers_cpu_s.items()))
    objects = ", ".join(f"{end} {size / pages / 1024:.0f}" for end, size in sorted(usage.stored_bytes.items()) if size)
    print(f"  KiB a page in objects: {objects}; a row of the index takes {4 * DIM + 16} bytes on the wire")
    print(f"  busy: {', '.join(f'{stage} {share:.2f}' for stage, share in usage.busy.items())}")
    print(f"  peak memory: worker {usage.worker_mib:.0f} MiB, children {usage.children_mib:.0f} MiB", flush=True)
