"""Loading a visual model, ColQwen2 here: which layers are quantised, which checkpoints are refused, and the errors."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from prometheus_client import Gauge
from transformers import ColQwen2ForRetrieval

from ingestion import metrics
from ingestion.errors import DependencyUnavailable, EmbedderMissing, IngestError, ModelNotFound, NotEnoughMemory
from ingestion.settings import EmbedderSettings
from workers.embedding.batching.stages import OutOfMemory
from workers.embedding.visual import loading, weights
from workers.embedding.visual.families.colqwen2 import ColQwen2
from workers.embedding.visual.family import FamilyOptions
from workers.embedding.visual.loading import load_model, measure_memory, quantisation
from workers.embedding.visual.model import VisualModel
from workers.embedding.visual.selftest import verify_model
from workers.rendering.selftest import SelfTestFailed

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture
def copy(checkpoint: Path, tmp_path: Path) -> Path:
    """A checkpoint to damage."""
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))


@pytest.fixture
def network(checkpoint: Path) -> Any:
    """In float32, to damage."""
    loaded: Any = ColQwen2ForRetrieval.from_pretrained(checkpoint, dtype=torch.float32)
    return loaded.eval()


def settings(model: Path | str, precision: str = "fp32", **changes: Any) -> EmbedderSettings:
    values = {"visual_model": str(model), "visual_precision": precision, "visual_device": "cpu", **changes}
    return EmbedderSettings.model_validate(values)


def with_processor(network: Any, checkpoint: Path) -> VisualModel:
    return VisualModel(network, ColQwen2(network, ColQwen2.read_processor(checkpoint), FamilyOptions()))


# Quantisation


def test_nf4_quantises_the_language_model_and_nothing_else(checkpoint: Path) -> None:
    network = load_model(settings(checkpoint, "nf4")).model.network
    by_part: dict[str, set[str]] = {}
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.Linear):
            by_part.setdefault(name.rpartition("vlm.")[2].split(".")[0], set()).add(type(module).__name__)
    assert by_part == {"visual": {"Linear"}, "language_model": {"Linear4bit"}, "embedding_proj_layer": {"Linear"}}
    assert network.embedding_proj_layer.weight.dtype == torch.bfloat16


def test_nf4_is_asked_for_with_its_scales_quantised_too() -> None:
    asked = quantisation(ColQwen2.not_quantised).to_dict()
    assert asked["bnb_4bit_quant_type"] == "nf4"
    assert asked["bnb_4bit_use_double_quant"]


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_without_nf4_every_weight_is_of_the_precision(checkpoint: Path, precision: str, dtype: torch.dtype) -> None:
    network = load_model(settings(checkpoint, precision)).model.network
    assert {weight.dtype for weight in network.parameters()} == {dtype}


@pytest.mark.parametrize(("free_bytes", "chosen"), [(10**9, "bf16"), (1, "nf4")])
def test_auto_takes_bf16_where_its_weights_leave_half_of_the_memory(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, free_bytes: int, chosen: str
) -> None:
    found = weights.find_weights(str(checkpoint), "main")
    monkeypatch.setattr(loading, "_free_bytes", lambda device: max(free_bytes, 4 * found.parameters - 1))
    loaded = load_model(settings(checkpoint, "auto"))
    assert loaded.precision == chosen
    assert loaded.model.network.dtype == torch.bfloat16
    layer = loaded.model.network.vlm.language_model.layers[0].mlp.up_proj
    assert (type(layer).__name__ == "Linear4bit") == (chosen == "nf4")


# The self-test


def test_a_quantised_vision_tower_is_refused(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "quantisation", lambda _: quantisation(("embedding_proj_layer",)))
    with pytest.raises(SelfTestFailed, match=r"vlm\.visual\..*is quantised"):
        load_model(settings(checkpoint, "nf4"))


def test_positions_of_a_line_of_text_are_refused(network: Any, checkpoint: Path) -> None:
    published = network.forward
    network.forward = lambda **inputs: published(**{**inputs, "position_ids": None})
    with pytest.raises(SelfTestFailed, match="positions of image tokens"):
        verify_model(with_processor(network, checkpoint), "fp32")


def test_pages_that_leak_into_each_other_are_refused(network: Any, checkpoint: Path) -> None:
    published = network.forward

    def leaking(**inputs: Any) -> Any:
        output = published(**inputs)
        output.embeddings = torch.nn.functional.normalize(output.embeddings + output.embeddings.mean(dim=0), dim=-1)
        return output

    network.forward = leaking
    with pytest.raises(SelfTestFailed, match="differs from the page alone"):
        verify_model(with_processor(network, checkpoint), "fp32")


@pytest.mark.parametrize("scale", [2.0, float("nan"), 0.0])
def test_vectors_that_are_not_of_unit_length_are_refused(network: Any, checkpoint: Path, scale: float) -> None:
    published = network.forward

    def scaled(**inputs: Any) -> Any:
        output = published(**inputs)
        output.embeddings = output.embeddings * scale
        return output

    network.forward = scaled
    with pytest.raises(SelfTestFailed, match="unit length"):
        verify_model(with_processor(network, checkpoint), "fp32")


# Errors that say what to do


def message(values: EmbedderSettings, error: type[IngestError]) -> str:
    with pytest.raises(error) as raised:
        load_model(values)
    return raised.value.message


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert "PAGEMILL_VISUAL_MODEL" in message(settings(tmp_path / "absent"), ModelNotFound)


@pytest.mark.parametrize("part", ["config.json", "model.safetensors"])
def test_a_folder_that_is_no_checkpoint(copy: Path, part: str) -> None:
    (copy / part).unlink()
    assert "whole checkpoint" in message(settings(copy), ModelNotFound)


@pytest.mark.parametrize("part", ["tokenizer.json", "processor_config.json"])
def test_a_checkpoint_without_its_processor(copy: Path, part: str) -> None:
    (copy / part).unlink()
    assert "is not a ColQwen2" in message(settings(copy), ModelNotFound)


def test_an_adapter_is_named_as_one(copy: Path) -> None:
    (copy / "config.json").rename(copy / "adapter_config.json")
    assert "is an adapter (LoRA)" in message(settings(copy), ModelNotFound)


@pytest.mark.parametrize("model_type", ["qwen2_vl", None])
def test_a_checkpoint_of_an_unknown_family(copy: Path, model_type: str | None) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "model_type": model_type}))
    found = message(settings(copy), ModelNotFound)
    assert repr(model_type) in found and "PAGEMILL_VISUAL_MODEL" in found and "colqwen2" in found


def test_a_config_that_is_damaged(copy: Path) -> None:
    (copy / "config.json").write_text("[")
    assert "config.json cannot be read" in message(settings(copy), ModelNotFound)


@pytest.mark.parametrize("content", [b"", b"\x08\0\0\0\0\0\0\0[1,2,3] ", b"\xff" * 64])
def test_weights_that_are_damaged(copy: Path, content: bytes) -> None:
    (copy / "model.safetensors").write_bytes(content)
    assert "fetch it again" in message(settings(copy), ModelNotFound)


def test_weights_that_are_cut_off(copy: Path) -> None:
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    assert "is not a ColQwen2" in message(settings(copy), ModelNotFound)


def test_weights_of_another_model(copy: Path) -> None:
    """transformers would initialise missing weights at random."""
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes().replace(b"embedding_proj_layer", b"something_else_layer"))
    assert "lacks 2 of ColQwen2's weights" in message(settings(copy), ModelNotFound)


@pytest.fixture
def empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))


@pytest.mark.usefixtures("empty_cache")
def test_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    found = message(settings("vidore/colqwen2-v1.0-hf"), DependencyUnavailable)
    assert "hf download vidore/colqwen2-v1.0-hf" in found


@pytest.fixture
def empty_hub() -> Iterator[str]:
    """A hub on which there is nothing; its address."""

    class Nothing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            """Not on standard error."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Nothing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.usefixtures("empty_cache")
def test_a_name_that_the_hub_does_not_know(monkeypatch: pytest.MonkeyPatch, empty_hub: str) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", empty_hub)
    assert "PAGEMILL_VISUAL_REVISION" in message(settings("nobody/nothing"), ModelNotFound)


def test_a_name_that_cannot_be_one() -> None:
    assert "PAGEMILL_VISUAL_MODEL" in message(settings("not//a name"), ModelNotFound)


@pytest.mark.parametrize("package", ["bitsandbytes", "accelerate"])
def test_nf4_without_its_packages(checkpoint: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    version = importlib.metadata.version

    def without(name: str) -> str:
        if name == package:
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr("importlib.metadata.version", without)
    found = message(settings(checkpoint, "nf4"), EmbedderMissing)
    assert package in found and "pip install 'pagemill[visual]'" in found
    assert load_model(settings(checkpoint, "bf16")).model.dim == 32


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there(checkpoint: Path) -> None:
    assert "PAGEMILL_VISUAL_DEVICE" in message(settings(checkpoint, visual_device="cuda"), EmbedderMissing)


def test_weights_that_cannot_fit_the_memory_are_not_even_read(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    huge = weights.Weights(checkpoint, "v", 10**13)
    monkeypatch.setattr(loading, "find_weights", lambda *_: huge)
    found = message(settings(checkpoint), NotEnoughMemory)
    assert "GiB are needed" in found and "nf4" in found


def test_memory_that_runs_out_while_loading(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory(*_: object) -> None:
        raise OutOfMemory("tried to allocate 20 MiB")

    monkeypatch.setattr(loading, "verify_model", out_of_memory)
    assert "tried to allocate 20 MiB" in message(settings(checkpoint), NotEnoughMemory)


# What a checkpoint is


def test_parameters_are_counted_from_the_headers(checkpoint: Path, network: Any) -> None:
    found = weights.find_weights(str(checkpoint), "main")
    assert found.parameters == sum(weight.numel() for weight in network.parameters())


def test_the_version_of_a_weights_folder_depends_on_its_content(checkpoint: Path, copy: Path) -> None:
    def version(folder: Path) -> str:
        return weights.find_weights(str(folder), "main").version

    assert version(copy) == version(checkpoint)
    config = json.loads((copy / "processor_config.json").read_text())
    (copy / "processor_config.json").write_text(json.dumps({**config, "query_prefix": "Question: "}))
    assert version(copy) != version(checkpoint)


def test_gpu_memory_is_read_when_the_metric_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    held = {torch.device("cuda:1"): 3 << 30}
    monkeypatch.setattr(torch.cuda, "memory_reserved", held.__getitem__)
    monkeypatch.setattr(metrics, "GPU_MEMORY_RESERVED", Gauge("gpu_memory", "of this test", registry=None))
    measure_memory(torch.device("cpu"))
    assert value_of(metrics.GPU_MEMORY_RESERVED) == 0
    measure_memory(torch.device("cuda:1"))
    assert value_of(metrics.GPU_MEMORY_RESERVED) == 3 << 30
    held[torch.device("cuda:1")] = 5
    assert value_of(metrics.GPU_MEMORY_RESERVED) == 5


def value_of(gauge: Gauge) -> float:
    [family] = gauge.collect()
    return float(family.samples[0].value)
