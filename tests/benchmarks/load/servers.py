"""The servers that are measured, each a child process that ends with its block."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import psutil

from tests.conftest import clean_environment
from tests.support.ports import free_port
from workers.stack import binaries

_START_S: Final = 180.0
_STOP_S: Final = 20.0

INFINITY: Final = ("infinity-emb[torch,server]==0.0.78", "torch==2.13.0")
"""Without torchvision, which it does not need for text."""


@dataclass(frozen=True, slots=True)
class Server:
    name: str
    port: int
    process: psutil.Process

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cpu_s(self) -> float:
        """Of the process and its children so far."""
        times = [one.cpu_times() for one in self._tree()]
        return sum(one.user + one.system for one in times)

    def rss_bytes(self) -> int:
        return sum(one.memory_info().rss for one in self._tree())

    def _tree(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]


@contextmanager
def pagemill(name: str, *options: str, settings: Mapping[str, str] | None = None) -> Iterator[Server]:
    """`pagemill serve embedder` with `options`, and with these settings alone."""
    command = [sys.executable, "-m", "workers.cli", "serve", "embedder", *options]
    environment = {**clean_environment(), "PAGEMILL_LOG_LEVEL": "warning", **(settings or {})}
    with _serving(name, command, environment, "/ready") as server:
        yield server


@contextmanager
def infinity(venv: Path, model: Path) -> Iterator[Server]:
    """Infinity from an environment of its own, which is made where it is missing."""
    program = venv / "bin" / "infinity_emb"
    if not program.exists():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        subprocess.run([str(venv / "bin" / "pip"), "install", "--quiet", *INFINITY], check=True)
    options = "--engine torch --device cpu --no-bettertransformer --host 127.0.0.1 --url-prefix /v1"
    command = [str(program), "v2", "--model-id", str(model), "--served-model-name", "minilm", *shlex.split(options)]
    environment = {**os.environ, "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
    with _serving("infinity", command, environment, "/health") as server:
        yield server


@contextmanager
def redis() -> Iterator[str]:
    """The address of a Redis that keeps nothing on disk."""
    port = free_port()
    command = [
        str(binaries.find("redis")),
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        _wait_for_port(port, process)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        _stop(process)


@contextmanager
def _serving(name: str, command: Sequence[str], environment: Mapping[str, str], ready: str) -> Iterator[Server]:
    port = free_port()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen([*command, "--port", str(port)], env=environment, stdout=output, stderr=output)
        try:
            _wait_until_ready(f"http://127.0.0.1:{port}{ready}", process)
            yield Server(name, port, psutil.Process(process.pid))
        except RuntimeError as error:
            output.seek(0)
            raise RuntimeError(f"{name}: {error}\n{output.read().decode()[-4000:]}") from error
        finally:
            _stop(process)


def _wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(url, timeout=2.0).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"not ready at {url}")


def _wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _STOP_S
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"nothing listens on port {port}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
