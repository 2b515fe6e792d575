"""`pagemill embedder report`, all of it, on the CPU with a tiny model."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from structlog.testing import capture_logs
from typer.testing import CliRunner

from ingestion.errors import WorkerFault
from workers.cli import app
from workers.embedding.calibrate import BatchMeasurement
from workers.embedding.visual.families.colmodernvbert import ColModernVBert
from workers.embedding.visual.families.neomme import NeoMME
from workers.embedding.visual.family import Family
from workers.embedding.visual.loading import read_model
from workers.embedding_report import child, machine, model_sections
from workers.embedding_report.architectures import ARCHITECTURES, Sizes
from workers.embedding_report.checkpoint import write_random_checkpoint
from workers.embedding_report.context import Context, Deadline
from workers.embedding_report.document import write_document
from workers.embedding_report.levers import LEVERS, VISION_TOWERS
from workers.embedding_report.plan import LEVER_NAMES, MODEL_NAMES, Options, Section, Step
from workers.embedding_report.runner import make_report
from workers.embedding_report.samples import page
from workers.rendering.selftest import SelfTestFailed

pytestmark = pytest.mark.usefixtures("one_torch_thread")

SHORT_S = 0.02
"""Every section measures at least once, however short its time is."""


def options(checkpoint: Path, *precisions: str, levers: tuple[str, ...] = ()) -> Options:
    return Options(str(checkpoint), "cpu", precisions, levers, largest=4, repeats=1)


def context_of(chosen: Options, precision: str) -> Context:
    return Context(chosen, precision, Path(chosen.model), torch.device("cpu"))


def lines_of(step: Step, chosen: Options, seconds: float) -> dict[str, dict[str, Any]]:
    return {line["section"]: line for line in child.run_step(step, chosen, Path(chosen.model), seconds)}


def test_every_section_measures_in_every_precision_and_is_in_the_document(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = options(checkpoint, "bf16", "nf4")
    monkeypatch.setattr(machine, "_LEAST_S", SHORT_S)
    findings: dict[str, dict[str, Any]] = {"machine": lines_of(Step(), chosen, SHORT_S)}
    for precision in chosen.precisions:
        context = context_of(chosen, precision)
        context.patience = inf  # however busy this machine is
        findings[precision] = {
            section.value: {"figures": child.SECTIONS[section](context, Deadline.after(SHORT_S))}
            for section in chosen.sections
        }
    for precision in chosen.precisions:
        found = {section: line["figures"] for section, line in findings[precision].items()}
        assert found[Section.BATCHES]["batches"][0]["items"] == 1
        assert found[Section.BATCHES]["pages_per_s"] > 0
        assert found[Section.MEMORY]["is_recovered"]
        assert found[Section.MEMORY]["largest_cosine_distance"] < 3e-2
        for section in (Section.BATCHER, Section.LOOP, Section.WORKER):
            assert found[section]["pages_per_s"] > 0, section
            assert 0 < found[section]["busy_share"] <= 1
        assert 0 <= found[Section.BATCHER]["padding_share"] < 1
        assert found[Section.WORKER]["rows_a_page"] > 0
        assert found[Section.QUERIES]["beside_pages"]["queries"] > 0
    write_document(chosen, findings, tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "It is the fastest here: " in text and "PAGEMILL_EMBED_BATCH_PATCHES=" in text
    assert "Not measured" not in text
    assert json.loads((tmp_path / "report.json").read_text())["nf4"]["load"]["figures"]["parameters"] > 0
    for plot in ("pages-by-batch.svg", "memory-by-batch.svg"):
        drawn = ElementTree.parse(tmp_path / plot).getroot()
        assert [line.text for line in drawn.iter("{http://www.w3.org/2000/svg}text") if line.text in chosen.precisions]


def test_a_section_that_fails_leaves_the_others(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(model: object, precision: str) -> None:
        raise SelfTestFailed("a page in a batch differs")

    def break_down(context: Context, deadline: Deadline) -> dict[str, Any]:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    for section in (Section.MEMORY, Section.BATCHER, Section.LOOP, Section.QUERIES, Section.WORKER):
        monkeypatch.setitem(child.SECTIONS, section, lambda context, deadline: {"left_s": deadline.left_s})
    monkeypatch.setattr(model_sections, "verify_model", fail)
    monkeypatch.setitem(child.SECTIONS, Section.BATCHES, break_down)
    with capture_logs() as events:
        found = lines_of(Step("bf16"), options(checkpoint, "bf16"), 1000)
    logged = [event for event in events if event["log_level"] == "error"]
    assert found["self_test"]["error"] == "SelfTestFailed: a page in a batch differs"
    assert "illegal memory access" in found["batches"]["error"]
    assert [name for name, line in found.items() if "error" in line] == ["self_test", "batches"]
    assert [(event["section"], event["exc_info"]) for event in logged] == [("self_test", True), ("batches", True)]
    assert found["worker"]["figures"]["left_s"] > 900, "what earlier sections leave is for the last one"


def test_a_model_that_cannot_be_loaded_is_the_error_of_every_section(tmp_path: Path) -> None:
    found = lines_of(Step("bf16"), options(tmp_path, "bf16"), 1000)
    assert "has no config.json" in found.pop("load")["error"]
    assert {line["error"] for line in found.values()} == {"WorkerFault: the model was not loaded"}


def test_operations_that_cannot_be_counted_leave_the_batches_and_are_in_the_log(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: Any) -> None:
        raise RuntimeError("a kernel cannot run under a dispatch mode")

    context = loaded_context(checkpoint)
    monkeypatch.setattr(model_sections, "FlopCounterMode", refuse)
    with capture_logs() as events:
        found = child.SECTIONS[Section.BATCHES](context, Deadline.after(SHORT_S))
    assert found["page_operations"] is None and found["pages_per_s"] > 0
    assert [event["event"] for event in events] == ["operations cannot be counted"]


def test_a_section_that_would_take_far_too_long_does_not_begin(checkpoint: Path) -> None:
    context = loaded_context(checkpoint)
    context.patience = 0
    for section in (Section.MEMORY, Section.WORKER):
        with pytest.raises(WorkerFault, match=r"pages would take \d+ s, and \d+ s are left"):
            child.SECTIONS[section](context, Deadline.after(1000))


def test_no_section_begins_after_the_time(checkpoint: Path) -> None:
    found = lines_of(Step("bf16"), options(checkpoint, "bf16"), 0)
    assert "figures" in found.pop("load")
    assert {line["error"] for line in found.values()} == {"no time was left"}


COMPILED = {"compile-vision", "cuda-graphs"}
"""Tracing takes seconds, and its result is the same function on a CPU."""


def loaded_context(checkpoint: Path, *levers: str) -> Context:
    context = context_of(options(checkpoint, "fp32", levers=levers), "fp32")
    child.SECTIONS[Section.LOAD](context, Deadline.after(1))
    context.measured = [BatchMeasurement(pages, pages, 1, 1 / pages) for pages in (1, 2)]
    return context


def test_levers_change_no_vector_and_one_that_cannot_run_says_so(checkpoint: Path) -> None:
    assert set(LEVERS) == set(LEVER_NAMES)
    context = loaded_context(checkpoint, *(name for name in LEVER_NAMES if name not in COMPILED))
    with capture_logs() as events:
        found = child.SECTIONS[Section.LEVERS](context, Deadline.after(SHORT_S))
    assert "FlashAttention 2 is not installed" in found.pop("flash-attention")["error"]
    assert found.pop("sdpa")["error"] == "WorkerFault: the model uses sdpa without this lever"
    assert [event["lever"] for event in events if event["log_level"] == "error"] == ["flash-attention", "sdpa"]
    resized = found.pop("device-resize")
    assert resized["largest_cosine_distance"] < 0.05  # pixels are rounded otherwise, by one level
    for name, figures in found.items():
        assert figures.get("largest_cosine_distance", 1) < 1e-5, (name, figures)


@pytest.mark.parametrize("family", [ColModernVBert, NeoMME])
def test_pages_that_are_cut_or_padded_are_not_resized_on_the_device(checkpoint: Path, family: type[Family]) -> None:
    context = loaded_context(checkpoint)
    context.model.family = SimpleNamespace(name=family.name, title=family.title)
    with pytest.raises(WorkerFault, match=f"{family.title} does more to a page"), LEVERS["device-resize"](context):
        pass


@pytest.mark.parametrize("name", sorted(COMPILED))
def test_a_vision_tower_is_compiled_during_the_block_only(checkpoint: Path, name: str) -> None:
    context = loaded_context(checkpoint)
    tower = context.model.network.vlm.visual
    usual = tower.forward
    with LEVERS[name](context):
        assert tower.forward != usual
    assert tower.forward == usual


def shallow(sizes: Sizes) -> Sizes:
    """Two layers of text, one of vision, and few words."""
    layers = {"num_hidden_layers": 2, "layer_types": ["sliding_attention", "full_attention"]}
    text = {**sizes.text, "vocab_size": 400, **(layers if not sizes.vision else {"num_hidden_layers": 2})}
    depth = "depth" if "depth" in sizes.vision else "num_hidden_layers"
    return replace(sizes, text=text, vision={**sizes.vision, depth: 1})


@pytest.mark.parametrize("family", MODEL_NAMES)
def test_random_weights_are_a_checkpoint_that_loads(family: str, tmp_path: Path) -> None:
    assert set(ARCHITECTURES) == set(MODEL_NAMES)
    published = ARCHITECTURES[family]
    parameters = write_random_checkpoint(replace(published, sizes=shallow(published.sizes)), tmp_path)
    loaded = read_model(context_of(options(tmp_path, "bf16"), "bf16").settings)
    assert loaded.model.family.name == family
    assert loaded.model.prepare(page()).cost > 500
    assert sum(weight.numel() for weight in loaded.model.network.parameters()) == parameters


@pytest.mark.parametrize(
    ("family", "millions"), [("colqwen2", 2209), ("colpali", 2925), ("colmodernvbert", 245), ("neomme", 263)]
)
def test_the_architecture_has_the_published_size(family: str, millions: int, tmp_path: Path) -> None:
    """Published: 2.2 B, 2.9 B, 250 M, 260 M."""
    architecture = ARCHITECTURES[family]
    with torch.device("meta"):
        network = architecture.network_class(architecture.prepare(tmp_path))
    assert round(sum(weight.numel() for weight in network.parameters()) / 1e6) == millions
    towers = [network.get_submodule(name) for name in VISION_TOWERS if has_submodule(network, name)]
    assert len(towers) == (0 if family == "neomme" else 1)
    assert not towers or any("patch_embed" in name for name, _ in towers[0].named_modules())


def has_submodule(network: Any, name: str) -> bool:
    try:
        network.get_submodule(name)
    except AttributeError:
        return False
    return True


HANGS = """
import json, sys, time
print("a library writes something")
print(json.dumps({"section": "load", "figures": {"seconds": 1.0, "bytes": 5, "attention": "sdpa"}}), flush=True)
if "--precision nf4" in " ".join(sys.argv):
    time.sleep(600)
sys.exit(3)
"""


def test_a_step_that_hangs_or_crashes_is_ended_and_named(checkpoint: Path, tmp_path: Path) -> None:
    echoed: list[str] = []
    began = time.monotonic()
    make_report(options(checkpoint, "bf16", "nf4"), tmp_path, 0.03, echoed.append, child=(sys.executable, "-c", HANGS))
    assert time.monotonic() - began < 30
    text = (tmp_path / "report.md").read_text()
    assert "- bf16, batches: the step's process ended with status 3; see bf16.log" in text
    assert "- nf4, batches: the time was over: the step was ended after" in text
    assert "| attention | sdpa | sdpa |" in text
    assert "  load: measured" in echoed


def test_weights_that_could_not_be_made_are_named(tmp_path: Path) -> None:
    chosen = Options("colqwen2", "cpu", ("bf16",))
    make_report(chosen, tmp_path, 0.03, lambda line: None, child=(sys.executable, "-c", "raise SystemExit(9)"))
    text = (tmp_path / "report.md").read_text()
    assert "- machine, checkpoint: the step's process ended with status 9; see machine.log" in text


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--levers", "warp"], "there is no lever 'warp'; there are compile-vision"),
        (["--model", "colqwen9"], "'colqwen9' is neither a folder nor one of colqwen2"),
    ],
)
def test_a_wrong_option_gets_one_error(tmp_path: Path, arguments: list[str], error: str) -> None:
    result = CliRunner().invoke(app, ["embedder", "report", "--out", str(tmp_path), *arguments])
    assert result.exit_code != 0
    assert error in result.stderr
