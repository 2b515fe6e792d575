"""Worker processes that a scenario can kill, freeze, stop and replace, with their logs.

A worker that has ended is started again under its name, like by a supervisor or a StatefulSet. On Apache Kafka
workers are dynamic members. noida-db never expires a dead member: there they are static members, which get their
partitions back, and no worker stays dead.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import httpx
import psutil

from tests.chaos.waiting import until
from workers.stack.supervise import ProcessSpec, Supervised

_START_S: Final = 90.0
_STOP_S: Final = 60.0

LogLine = dict[str, Any]


class Worker:
    """One process of `pagemill serve worker`. Signals go to this process only, not to its render children."""

    def __init__(self, name: str, environment: Mapping[str, str], log_path: Path) -> None:
        argv = (sys.executable, "-P", "-m", "workers.cli", "serve", "worker")
        is_static = environment.get("PAGEMILL_KAFKA_STAND_IN", "false")
        own = {"PAGEMILL_WORKER_ID": name, "PAGEMILL_KAFKA_STATIC_MEMBERSHIP": is_static}
        self.name = name
        self.process = Supervised(ProcessSpec(name, argv, "", _no_probe, env={**environment, **own}), log_path)
        self.signals: list[signal.Signals] = []
        self._log_path = log_path
        self._read_bytes = 0
        self._lines: list[LogLine] = []

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def is_running(self) -> bool:
        return self.process.is_running

    def signal(self, number: signal.Signals) -> None:
        self.signals.append(number)
        os.kill(self.pid, number)

    async def ended(self) -> int:
        """Wait for the end after a signal. Returns the exit status, negative for a signal."""
        async with asyncio.timeout(_STOP_S):
            return await self.process.wait()

    async def stop(self) -> None:
        """Kill the process and its children."""
        if self.is_running:
            self.signal(signal.SIGCONT)
        await self.process.stop()

    def owns_port(self, port: int) -> bool:
        """True if one of its connections has the local port `port`."""
        try:
            connections = psutil.Process(self.pid).net_connections("tcp4")
        except psutil.NoSuchProcess:
            return False
        return any(connection.laddr and connection.laddr.port == port for connection in connections)

    async def outages(self) -> set[str]:
        """The unavailable servers in its /ready; empty before it listens."""
        started = self.events("worker started")
        if not started:
            return set()
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"http://127.0.0.1:{started[0]['health_port']}/ready")
        return {outage["dependency"] for outage in answer.json()["outages"]}

    def lines(self) -> list[LogLine]:
        """The log lines so far, without an incomplete last line."""
        if self._log_path.exists():
            with self._log_path.open("rb") as log:
                log.seek(self._read_bytes)
                whole = log.read().rpartition(b"\n")[0]
            self._read_bytes += len(whole) + 1 if whole else 0
            self._lines += [json.loads(line) for line in whole.splitlines() if line.startswith(b"{")]
        return self._lines

    def events(self, event: str) -> list[LogLine]:
        return [line for line in self.lines() if line.get("event") == event]

    def holds(self) -> Counter[str]:
        """The documents that it has claimed and neither settled nor lost, by its log."""
        held: Counter[str] = Counter()
        for line in self.lines():
            if line.get("event") == "claimed":
                held[line["document_id"]] = 1
            elif line.get("event") in ("settled", "lease lost"):
                held.pop(line["document_id"], None)
        return held


class Fleet:
    """The workers of a run, ended ones included. A worker that ends is restarted until it is dismissed."""

    def __init__(self, environment: Mapping[str, str], log_dir: Path) -> None:
        self._environment = environment
        self._log_dir = log_dir
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self.workers: list[Worker] = []

    @property
    def running(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.is_running]

    async def start(self, count: int) -> None:
        """Start workers 1 to `count`. Returns when all are members of the group."""
        for number in range(1, count + 1):
            self.keep(f"worker-{number}")
        await until(lambda: self._members() == count, _START_S, f"{count} workers are members of the group")

    def keep(self, name: str) -> None:
        """Start a worker called `name`, and restart it when it ends."""
        self._keepers[name] = asyncio.create_task(self._keep(name))

    async def dismiss(self, worker: Worker) -> None:
        """Send SIGTERM and wait until the worker has drained and left. It is not restarted."""
        self._keepers.pop(worker.name).cancel()
        worker.signal(signal.SIGTERM)
        await worker.ended()

    async def retire(self) -> None:
        """Dismiss all workers."""
        await asyncio.gather(*(self.dismiss(worker) for worker in self.running))

    async def stop(self) -> None:
        """Kill all workers that are left."""
        for keeper in self._keepers.values():
            keeper.cancel()
        await asyncio.gather(*self._keepers.values(), return_exceptions=True)
        await asyncio.gather(*(worker.stop() for worker in self.workers))

    async def _keep(self, name: str) -> None:
        while True:
            worker = Worker(name, self._environment, self._log_dir / f"{name}.{len(self.workers)}.log")
            self.workers.append(worker)
            await worker.process.start()
            await worker.process.wait()

    def _members(self) -> int:
        return sum(bool(worker.events("partitions assigned")) for worker in self.running)

    def by_port(self, port: int, among: Iterable[Worker] | None = None) -> Worker | None:
        """The running worker behind a proxy's client port."""
        return next((worker for worker in among or self.running if worker.owns_port(port)), None)

    def events(self, event: str) -> Iterator[LogLine]:
        for worker in self.workers:
            yield from worker.events(event)


async def _no_probe() -> None:
    """Returns at once: a caller that needs the worker waits for a line in its log."""
