"""What the tests of ColQwen2 share. torch is imported where it is needed: most tests do without."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny ColQwen2 on disk, the same for all tests: not to be changed."""
    from tests.support.tiny_colqwen import make_checkpoint

    return make_checkpoint(tmp_path_factory.mktemp("colqwen"))


@pytest.fixture(scope="module")
def one_torch_thread() -> Iterator[None]:
    """For tiny models, several threads wait for each other more than they compute, on a busy machine most of all."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
