"""`pagemill bench index` stops at SIGTERM, also if a library catches the signal handler's exception."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from ingestion.model import Page, PageVectors
from workers.bench.grid import Built, Grid, Searched
from workers.bench.sample import Sample
from workers.commands.bench import index

VECTORS = np.eye(4, dtype=np.float32)
SAMPLE = Sample([PageVectors(Page(1, 1, 1, b"", ""), 0, VECTORS)], [VECTORS])
POINT = Built(8, 100, 0.1, None, 1000, (Searched(16, 1.0, 1.0, 1.0),))


class Server:
    """Measures one index after another. SIGTERM comes during the first, in a callback that swallows exceptions."""

    def __init__(self) -> None:
        self.builds = 0
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
                with suppress(KeyboardInterrupt):
                    signal.raise_signal(signal.SIGTERM)
            yield POINT


def test_a_stop_that_a_library_swallowed_ends_the_command_after_the_index_it_is_at(
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
    assert server.builds == 1
    assert not server.has_index
    assert signal.getsignal(signal.SIGTERM) is before
    assert limits_s, "nothing ends a command that hangs"
