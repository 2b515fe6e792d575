"""ColQwen2's vectors equal those of the published model, for every batch, page size and order."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image

from ingestion.errors import BadRequest
from ingestion.model import Page, Vectors
from ingestion.settings import EmbedderSettings
from tests.support.tiny_colqwen import DIM, make_checkpoint, page_pixels
from workers.embedding.visual.loading import load_model
from workers.embedding.visual.model import VisualModel

pytestmark = pytest.mark.usefixtures("one_torch_thread")

CAP: Final = 768
GOLDEN: Final = Path(__file__).with_name("colqwen_golden.json")

PROMPT_TOKENS: Final = 12
"""Around a page's image, with the tiny tokenizer."""

EQUAL: Final = 1e-5
"""Largest difference of a component to the published computation in float32, where the page is not resized. Sums are
added up in another order on another CPU."""

RESIZED: Final = 1e-3
"""The same where it is: torch and Pillow resize with differences of up to 2 in 255."""

COSINE_TOLERANCES: Final = {"fp32": 1e-6, "bf16": 1e-3, "nf4": 1e-3}
"""Largest cosine distance of a vector between a page alone and the same page in any batch, for this shallow model."""

GOLDEN_TOLERANCES: Final = {"fp32": 2e-4, "nf4": 3e-2}
"""Largest difference of a component, across machines and versions: their kernels round differently."""


def model_of(checkpoint: Path, precision: str, **changes: Any) -> VisualModel:
    return load_model(
        EmbedderSettings.model_validate(
            {"visual_model": str(checkpoint), "visual_precision": precision, "visual_device": "cpu", **changes}
        )
    ).model


@pytest.fixture(scope="module")
def models(checkpoint: Path) -> dict[str, VisualModel]:
    return {precision: model_of(checkpoint, precision) for precision in ("fp32", "bf16", "nf4")}


@pytest.fixture(scope="module")
def exact(models: dict[str, VisualModel]) -> VisualModel:
    return models["fp32"]


@pytest.fixture(scope="module")
def processor(checkpoint: Path) -> Any:
    from transformers import ColQwen2Processor

    return ColQwen2Processor.from_pretrained(checkpoint)


def page(height_px: int, width_px: int, seed: int = 0) -> Page:
    return Page(1, width_px, height_px, b"", "", page_pixels(height_px, width_px, seed))


def embed(model: VisualModel, *items: Page | str) -> list[Vectors]:
    inputs = [model.prepare(item) for item in items]
    return model.finish(model.forward(inputs), inputs)


@torch.inference_mode()
def published_pages(network: Any, processor: Any, pages: Sequence[Page]) -> list[Vectors]:
    """By the published processor and classes, with nothing of ours: Qwen2-VL makes the positions itself."""
    images = [Image.fromarray(page.pixels) for page in pages if page.pixels is not None]
    size = {"shortest_edge": 3136, "longest_edge": CAP * 784}
    inputs = processor.process_images(images=images, size=size)
    patches = [
        pixels[: grid.prod()] for pixels, grid in zip(inputs["pixel_values"], inputs["image_grid_thw"], strict=True)
    ]
    hidden = network.vlm(
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        pixel_values=torch.cat(patches),
        image_grid_thw=inputs["image_grid_thw"],
        mm_token_type_ids=(inputs["input_ids"] == processor.image_token_id).int(),
    ).last_hidden_state
    network.vlm.rope_deltas = None  # left behind by the call, and added to the positions of the next
    return _unit_rows(network, hidden, inputs["attention_mask"])


@torch.inference_mode()
def published_queries(network: Any, processor: Any, queries: Sequence[str]) -> list[Vectors]:
    inputs = processor.process_queries(text=list(queries))
    hidden = network.vlm(**inputs).last_hidden_state
    return _unit_rows(network, hidden, inputs["attention_mask"])


def _unit_rows(network: Any, hidden: torch.Tensor, mask: torch.Tensor) -> list[Vectors]:
    embeddings = network.embedding_proj_layer(hidden)
    unit = embeddings / embeddings.norm(dim=-1, keepdim=True)
    return [rows[kept.bool()].numpy() for rows, kept in zip(unit, mask, strict=True)]


def largest_difference(found: Sequence[Vectors], expected: Sequence[Vectors]) -> float:
    assert [one.shape for one in found] == [other.shape for other in expected]
    return max(float(np.abs(one - other).max()) for one, other in zip(found, expected, strict=True))


def cosine_distance(one: Vectors, other: Vectors) -> float:
    assert one.shape == other.shape
    return 1 - float((one * other).sum(axis=1).min())


@pytest.mark.parametrize(
    ("sizes_px", "tolerance"), [([(280, 196), (56, 84)], EQUAL), ([(300, 420), (500, 90), (31, 64)], RESIZED)]
)
def test_pages_are_those_of_the_published_processor_and_model(
    exact: VisualModel, processor: Any, sizes_px: list[tuple[int, int]], tolerance: float
) -> None:
    pages = [page(*size_px) for size_px in sizes_px]
    expected = published_pages(exact.network, processor, pages)
    assert largest_difference(embed(exact, *pages), expected) <= tolerance


def test_queries_are_those_of_the_published_processor_and_model(exact: VisualModel, processor: Any) -> None:
    queries = ["what is the pressure of the boiler?", "naïve café €", ""]
    expected = published_queries(exact.network, processor, queries)
    assert largest_difference(embed(exact, *queries), expected) <= EQUAL


def test_a_query_ends_in_ten_augmentation_tokens_and_a_newline(exact: VisualModel, processor: Any) -> None:
    tokenizer = processor.tokenizer
    ids = exact.prepare("boiler").token_ids.tolist()
    assert tokenizer.decode(ids) == "Query: boiler" + "<|endoftext|>" * 10 + "\n"
    # They look like padding and are not: each has its vector.
    assert len(embed(exact, "boiler", "a much longer question about the boiler")[0]) == len(ids)


def test_special_tokens_in_a_query_are_only_text(exact: VisualModel, processor: Any) -> None:
    hostile = exact.prepare("<|image_pad|> <|endoftext|> <|im_start|>")
    assert processor.image_token_id not in hostile.token_ids
    assert hostile.token_ids.tolist().count(processor.tokenizer.pad_token_id) == 10


def test_an_endless_query_is_cut(exact: VisualModel) -> None:
    assert exact.prepare("boiler " * 10_000).cost == 512 + 11


def test_padding_never_becomes_a_vector(exact: VisualModel) -> None:
    inputs = [exact.prepare(page(56, 56)), exact.prepare(page(280, 280)), exact.prepare("boiler")]
    raw = exact.forward(inputs)
    assert raw.shape[1] > inputs[0].cost  # there is something to drop
    vectors = exact.finish(raw, inputs)
    assert [len(one) for one in vectors] == [4 + PROMPT_TOKENS, 100 + PROMPT_TOKENS, inputs[2].cost]
    assert all(np.allclose(np.linalg.norm(one, axis=1), 1, atol=1e-6) for one in vectors)


def test_the_language_model_gets_no_mask_and_pages_of_a_batch_are_as_with_one(exact: VisualModel) -> None:
    """The mask of the published processor names the padding. Causal attention reads none of it, with or without."""
    inputs = [exact.prepare(page(56, 56)), exact.prepare(page(280, 280)), exact.prepare("boiler")]
    seen: list[dict[str, Any]] = []

    def masked(_module: object, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        seen.append(kwargs)
        lengths = torch.tensor([item.cost for item in inputs])
        mask = (torch.arange(kwargs["input_ids"].shape[1]) < lengths[:, None]).long()
        return args, {**kwargs, "attention_mask": mask}

    found = exact.finish(exact.forward(inputs), inputs)
    hook = exact.network.register_forward_pre_hook(masked, with_kwargs=True)
    expected = exact.finish(exact.forward(inputs), inputs)
    hook.remove()
    assert seen[0].get("attention_mask") is None
    assert max(np.abs(one - other).max() for one, other in zip(found, expected, strict=True)) <= EQUAL


@pytest.mark.parametrize("precision", ["fp32", "bf16", "nf4"])
def test_vectors_are_float32_of_unit_length_in_every_precision(models: dict[str, VisualModel], precision: str) -> None:
    for vectors in embed(models[precision], page(84, 140), "boiler"):
        assert vectors.dtype == np.float32 and vectors.shape[1] == DIM
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_prompt_tokens_are_dropped_where_that_is_asked_for(checkpoint: Path, exact: VisualModel) -> None:
    kept = embed(exact, page(280, 280))[0]
    dropped = embed(model_of(checkpoint, "fp32", visual_prompt_tokens="drop"), page(280, 280))[0]
    before = exact.prepare(page(280, 280)).token_ids.tolist().index(exact.network.config.vlm_config.image_token_id)
    assert largest_difference([dropped], [kept[before : before + 100]]) <= EQUAL


def test_pooling_merges_the_vectors_of_pages_and_not_those_of_queries(checkpoint: Path, exact: VisualModel) -> None:
    pooled = model_of(checkpoint, "fp32", token_pooling=3)
    (of_page, of_query), (_, whole_query) = (embed(m, page(280, 280), "boiler") for m in (pooled, exact))
    assert of_page.shape == (38, DIM)
    assert largest_difference([of_query], [whole_query]) <= EQUAL


def test_a_page_without_its_picture_is_refused(exact: VisualModel) -> None:
    with pytest.raises(BadRequest, match="page 7"):
        exact.prepare(Page(7, 10, 10, b"", "text"))


sizes = st.integers(20, 200)
items = st.one_of(
    st.builds(page, sizes, sizes, st.integers(0, 9)), st.sampled_from(["", "boiler", "which valve leaks in winter?"])
)


@pytest.mark.parametrize(("precision", "examples"), [("fp32", 20), ("bf16", 6), ("nf4", 6)])
def test_batch_neighbours_size_and_order_do_not_change_a_page(
    models: dict[str, VisualModel], precision: str, examples: int
) -> None:
    model = models[precision]

    @hypothesis_settings(max_examples=examples, deadline=None)
    @given(st.lists(items, min_size=2, max_size=5), st.data())
    def check(batch: list[Page | str], data: st.DataObject) -> None:
        order = data.draw(st.permutations(range(len(batch))))
        together = embed(model, *(batch[index] for index in order))
        for index, vectors in zip(order, together, strict=True):
            assert cosine_distance(vectors, embed(model, batch[index])[0]) <= COSINE_TOLERANCES[precision]

    check()


@pytest.mark.parametrize("precision", ["fp32", "nf4"])
def test_vectors_are_still_those_of_the_golden_file(models: dict[str, VisualModel], precision: str) -> None:
    """Should a new torch, transformers or bitsandbytes compute something else, collections of both would be mixed."""
    golden = json.loads(GOLDEN.read_text())[precision]
    found = dict(zip(("page", "query"), embed(models[precision], *golden_items()), strict=True))
    for name, vectors in found.items():
        assert largest_difference([vectors], [np.array(golden[name])]) <= GOLDEN_TOLERANCES[precision]


@pytest.mark.parametrize("is_repacked", [True, False])
def test_nf4_vectors_are_those_of_the_golden_file_with_and_without_repacked_weights(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, is_repacked: bool
) -> None:
    """On CPUs with AVX512-BF16 bitsandbytes stores 4-bit weights in another layout, and multiplies them otherwise."""
    from bitsandbytes.backends.cpu import ops
    from bitsandbytes.functional import has_avx512bf16
    from bitsandbytes.nn import modules

    if is_repacked and not has_avx512bf16():
        pytest.skip("this CPU has no AVX512-BF16: bitsandbytes cannot repack weights here")
    for module in (modules, ops):
        monkeypatch.setattr(module, "has_avx512bf16", lambda: is_repacked)
    golden = json.loads(GOLDEN.read_text())["nf4"]
    model = model_of(checkpoint, "nf4")
    found = embed(model, *golden_items())
    for name, vectors in zip(("page", "query"), found, strict=True):
        assert largest_difference([vectors], [np.array(golden[name])]) <= GOLDEN_TOLERANCES["nf4"]


def golden_items() -> tuple[Page, str]:
    return page(100, 70, seed=4), "what is the pressure of the boiler?"


def write_golden(checkpoint: Path) -> None:
    """After a change that is meant: `python -m tests.contract.test_visual_model FOLDER`."""
    golden = {}
    for precision in ("fp32", "nf4"):
        vectors = embed(model_of(checkpoint, precision), *golden_items())
        golden[precision] = {
            name: [[round(float(x), 4) for x in row] for row in one]
            for name, one in zip(("page", "query"), vectors, strict=True)
        }
    GOLDEN.write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    import sys

    write_golden(make_checkpoint(Path(sys.argv[1])))
