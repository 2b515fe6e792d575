"""Measuring batch sizes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import structlog
from typer.testing import CliRunner

from ingestion.model import Vectors
from tests.support.batched_models import FakeModel, Sheet
from tests.support.tiny_checkpoints import make_checkpoint
from workers.cli import app
from workers.embedding.calibrate import BatchMeasurement, measure_batches, recommend_batch


class Timed(FakeModel):
    """A device that needs a second for a batch and a tenth for each item, on a clock of its own."""

    now = 0.0

    def finish(self, raw: list[Sheet], batch: Sequence[Sheet]) -> list[Vectors]:
        self.now += 1 + 0.1 * len(batch)
        return super().finish(raw, batch)


class Probe:
    """The memory of a batch is the size of the last batch."""

    def __init__(self, model: FakeModel) -> None:
        self._model = model
        self.resets = 0

    def reset(self) -> None:
        self.resets += 1

    def peak_bytes(self) -> int:
        return 1000 + 10 * len(self._model.batches[-1])


def measure(model: Timed, sizes: Sequence[int]) -> list[BatchMeasurement]:
    return list(
        measure_batches(
            model, Sheet(1, cost=100), sizes=sizes, repeats=3, memory=Probe(model), clock=lambda: model.now
        )
    )


def test_each_size_is_measured_until_one_does_not_fit() -> None:
    model = Timed(capacity=500)
    measured = measure(model, [1, 2, 4, 8, 16])
    assert [(one.items, one.patches, one.memory_bytes) for one in measured[:3]] == [
        (1, 100, 1010),
        (2, 200, 1020),
        (4, 400, 1040),
    ]
    assert [one.seconds for one in measured[:3]] == pytest.approx([1.1, 1.2, 1.4])
    assert (measured[3].items, measured[3].seconds) == (8, None)
    assert len(measured) == 4
    assert model.emptied == 1
    assert model.prepared == [1], "what the CPU does is not measured"


def test_the_smallest_batch_that_is_nearly_as_fast_is_advised() -> None:
    measured = measure(Timed(capacity=51_200), [1, 16, 128, 256, 512])
    assert [round(one.items_per_s, 2) for one in measured] == [0.91, 6.15, 9.28, 9.62, 9.81]
    best = recommend_batch(measured)
    assert best is not None
    assert best.items == 256


def test_nothing_is_advised_where_nothing_fits() -> None:
    assert recommend_batch([BatchMeasurement(1, 100, 0, None)]) is None


def test_the_command_prints_a_table_and_its_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGEMILL_VISUAL_MODEL", str(make_checkpoint(tmp_path)))
    monkeypatch.setenv("PAGEMILL_VISUAL_PRECISION", "fp32")
    monkeypatch.setenv("PAGEMILL_VISUAL_DEVICE", "cpu")
    monkeypatch.setenv("PAGEMILL_VISUAL_MAX_TOKENS", "64")
    monkeypatch.setattr("ingestion.logs.configure", lambda settings: None)  # the log of the tests stays as it is
    with structlog.testing.capture_logs():
        result = CliRunner().invoke(app, ["embedder", "calibrate", "--largest", "2", "--repeats", "1"])
    assert result.exit_code == 0, result.output
    heading, one_page, two_pages, _, advice = result.stdout.splitlines()
    assert heading.split() == ["batch", "patches", "memory", "GiB", "s", "per", "page", "pages/s"]
    patches = {line.split()[0]: line.split()[1] for line in (one_page, two_pages)}
    assert int(patches["2"]) == 2 * int(patches["1"])
    assert advice.startswith(tuple(f"PAGEMILL_EMBED_BATCH_PATCHES={found} " for found in patches.values()))
