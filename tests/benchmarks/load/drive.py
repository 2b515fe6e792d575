"""Runs the generator and reads what it measured."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import orjson

from tests.benchmarks.load.plan import Measured, Phase, Plan
from tests.benchmarks.load.servers import Server
from tests.benchmarks.load.traffic import Traffic

WARM_UP_S: Final = 1.0
_MOST_PER_S: Final = 8000
"""Inputs that are prepared for each second of clients; no service here answers as many."""
_LONGEST_S: Final = 60.0
_SAMPLE_S: Final = 0.2

_seeds = itertools.count(1)


def traffic(fields: Mapping[str, Any], **options: Any) -> Traffic:
    """With new inputs at each call."""
    return Traffic(dict(fields), next(_seeds), **options)


def drive(server: Server, phases: Sequence[Phase]) -> list[Measured]:
    process = subprocess.run(_GENERATOR, input=Plan(server.port, phases).written(), stdout=subprocess.PIPE, check=True)
    return _read(process.stdout)


def clients(
    server: Server, count: int, seconds: float, fields: Mapping[str, Any], *, inputs: int = 1, known: float = 0.0
) -> Measured:
    """So many clients side by side, after a second of warming up."""
    phases = [
        Phase(
            traffic(fields, inputs=inputs, known=known),
            length_s,
            int(_MOST_PER_S * length_s / inputs),
            clients=count,
        )
        for length_s in (WARM_UP_S, seconds)
    ]
    return drive(server, phases)[-1]


@contextmanager
def saturated(server: Server, count: int, fields: Mapping[str, Any], prepared: int, **options: Any) -> Iterator[None]:
    """Meanwhile so many clients keep `server` busy."""
    plan = Plan(server.port, [Phase(traffic(fields, **options), _LONGEST_S, prepared, clients=count)])
    process = subprocess.Popen(_GENERATOR, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert process.stdin is not None
    process.stdin.write(plan.written())
    process.stdin.close()
    try:
        _wait_until_busy(server, process)
        yield
        if process.poll() is not None:
            raise RuntimeError("the load had ended before the measurement")
    finally:
        process.kill()
        process.wait()


def _wait_until_busy(server: Server, process: subprocess.Popen[bytes]) -> None:
    """Once it has used half a second of CPU; before that, the requests are still being made."""
    begun_s = server.cpu_s()
    pause = threading.Event()
    while server.cpu_s() - begun_s < 0.5:
        if process.poll() is not None:
            raise RuntimeError("the load has ended before it began")
        pause.wait(0.1)


@contextmanager
def watched_rss(server: Server) -> Iterator[list[int]]:
    """Fills a list with the server's resident bytes, five times a second."""
    samples: list[int] = []
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(_SAMPLE_S):
            samples.append(server.rss_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield samples
    finally:
        is_over.set()
        watcher.join()


_GENERATOR: Final = [sys.executable, "-m", "tests.benchmarks.load.generator"]


def _read(output: bytes) -> list[Measured]:
    return [Measured(**phase) for phase in orjson.loads(output)]
