"""`pagemill bench index` stops at SIGTERM, and its signal handler raises nothing inside a library."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from ingestion.adapters.milvus import scratch_index
from ingestion.model import Page, PageVectors
from ingestion.settings import MilvusSettings
from workers.bench.grid import Built, Grid, Searched
from workers.bench.sample import Sample
from workers.commands.bench import index

VECTORS = np.eye(4, dtype=np.float32)
SAMPLE = Sample([PageVectors(Page(1, 1, 1, b"", ""), 0, VECTORS)], [VECTORS])
POINT = Built(8, 100, 0.1, None, 1000, (Searched(16, 1.0, 1.0, 1.0),))


class Server:
    """Measures one index after another. SIGTERM comes during the first, in a request."""

    def __init__(self) -> None:
        self.builds = self.answers = 0
        self.has_index = False

    @contextmanager
    def scratch(self, *_: object) -> Iterator[None]:
        self.has_index = True
        try:
            yield
        finally:
            self.has_index = False

    def measure(self, *_: object) -> Iterator[Built]:
        while self.builds < 3:
            self.builds += 1
            if self.builds == 1:
                signal.raise_signal(signal.SIGTERM)
                self.answers += 1
            yield POINT


def test_a_stop_ends_the_command_and_not_the_request_that_it_is_at(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server = Server()
    before = signal.getsignal(signal.SIGTERM)

    async def read(*_: object) -> Sample:
        return SAMPLE

    monkeypatch.chdir(tmp_path)  # no stack runs here
    monkeypatch.setattr(index, "_read", read)
    monkeypatch.setattr(index, "ScratchIndex", server.scratch)
    monkeypatch.setattr(index, "measure", server.measure)
    limits_s: list[float] = []
    monkeypatch.setattr(index, "exit_within", limits_s.append)  # it would end this process
    request = index.Request("c", Grid([8], [100, 300, 500], [16]), 2, 1, None, None, as_json=True, data_dir=None)
    with pytest.raises(KeyboardInterrupt):
        index.run(request)
    assert server.builds == server.answers == 1
    assert not server.has_index
    assert signal.getsignal(signal.SIGTERM) is before
    assert limits_s, "nothing ends a command that hangs"


def test_a_stop_is_obeyed_before_the_next_request_and_the_index_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[str] = []

    class Client:
        def __getattr__(self, name: str) -> Callable[..., object]:
            return lambda *_, **__: requests.append(name) or []

    def check() -> None:
        if "flush" in requests:
            raise KeyboardInterrupt

    monkeypatch.setattr(scratch_index, "connect", lambda settings: Client())
    monkeypatch.setattr(scratch_index, "create_collection", lambda *_: requests.append("create"))
    settings = MilvusSettings()
    with pytest.raises(KeyboardInterrupt), scratch_index.ScratchIndex(settings, 4, check) as scratch:
        scratch.build(settings)
    assert requests == ["list_collections", "create", "flush", "release_collection", "drop_collection", "close"]
