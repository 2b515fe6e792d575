"""Each family of visual models gives the vectors of its published processor and network, in any batch and order."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ingestion.errors import BadRequest
from ingestion.model import ROWS_PER_PAGE, Page, Vectors
from ingestion.settings import EmbedderSettings, RenderSettings
from tests.support.tiny_checkpoints import DIM, embed, largest_difference, make_checkpoint, page
from tests.support.tiny_families import FAMILIES, TinyFamily
from workers.embedding.factory import open_embedder
from workers.embedding.serving.decoding import ResizingEmbedder
from workers.embedding.visual import loading, selftest
from workers.embedding.visual.embedder import fingerprint
from workers.embedding.visual.families import all_families
from workers.embedding.visual.family import fitted_size
from workers.embedding.visual.images import Normaliser
from workers.embedding.visual.loading import LoadedModel, load_model, quantisation
from workers.embedding.visual.model import VisualModel
from workers.embedding.visual.selftest import verify_model
from workers.rendering.renderer import PdfRenderer
from workers.rendering.selftest import SelfTestFailed, self_test

pytestmark = pytest.mark.usefixtures("one_torch_thread")

GOLDEN: Final = Path(__file__).with_name("visual_golden.json")
PRECISIONS: Final = ("fp32", "bf16", "nf4")

EQUAL: Final = 1e-5
"""Largest difference of a component to the published computation in float32, and between batches with the same item.
Another CPU adds up sums in another order: oneDNN's kernels for AVX2 differ by 2.1e-6, those for AVX512 by less. A
wrong position or mask differs by more than 0.05."""

COSINE_TOLERANCES: Final = {"fp32": 1e-6, "bf16": 2e-3, "nf4": 2e-3}
"""Largest cosine distance of a vector between an item alone and the same item in any batch, for shallow networks."""

GOLDEN_TOLERANCES: Final = {"fp32": 2e-4, "nf4": 4e-2}
"""Largest difference of a component, across machines and versions: their kernels round differently."""

NF4_LAYER_ERROR: Final = 0.12
"""Of a layer's results, relative, for normally distributed weights: NF4 is off by 0.09 of them."""

GOLDEN_STEP: Final = 5
"""The golden file holds one vector of so many."""

QUERIES: Final = ("what is the pressure of the boiler?", "naïve café €", "")


@dataclass(frozen=True, slots=True)
class Tiny:
    """A family with a checkpoint and its models by precision."""

    family: TinyFamily
    folder: Path
    loaded: dict[str, LoadedModel]

    def model(self, precision: str = "fp32") -> VisualModel:
        return self.loaded[precision].model


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda family: family.name)
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    family: TinyFamily = request.param
    folder = make_checkpoint(tmp_path_factory.mktemp(family.name), family.name)
    return Tiny(family, folder, {precision: load(folder, precision) for precision in PRECISIONS})


def settings(folder: Path, precision: str = "fp32", **changes: Any) -> EmbedderSettings:
    values = {"visual_model": str(folder), "visual_precision": precision, "visual_device": "cpu", **changes}
    return EmbedderSettings.model_validate(values)


def load(folder: Path, precision: str = "fp32", **changes: Any) -> LoadedModel:
    return load_model(settings(folder, precision, **changes))


def fitted(model: VisualModel, one: Page) -> Page:
    """The page as resized by Pagemill: the published processor does not resize it again."""
    assert one.pixels is not None
    pixels = model.sizing.resize(one.pixels).numpy()
    return Page(1, pixels.shape[1], pixels.shape[0], b"", "", pixels)


def pixels_of(pages: Sequence[Page]) -> list[Any]:
    return [one.pixels for one in pages]


def cosine_distance(one: Vectors, other: Vectors) -> float:
    assert one.shape == other.shape
    return 1 - float((one * other).sum(axis=1).min())


# The published computation


def test_pages_are_those_of_the_published_processor_and_network(tiny: Tiny) -> None:
    model = tiny.model()
    pages = [page(100, 80), page(56, 56, seed=1), page(300, 200, seed=2), page(20, 130, seed=3)]
    expected = tiny.family.pages(model.network, tiny.folder, pixels_of([fitted(model, one) for one in pages]))
    assert largest_difference(embed(model, *pages), expected) <= EQUAL


def test_resized_pages_are_close_to_those_of_the_published_processor(tiny: Tiny) -> None:
    """The processors of ColQwen2 and ColPali resize by Pillow, which rounds other bytes than torch."""
    model = tiny.model()
    pages = [page(100, 80), page(300, 200, seed=2), page(20, 130, seed=3)]
    expected = tiny.family.pages(model.network, tiny.folder, pixels_of(pages))
    assert largest_difference(embed(model, *pages), expected) <= tiny.family.resized


def test_queries_are_those_of_the_published_processor_and_network(tiny: Tiny) -> None:
    model = tiny.model()
    expected = tiny.family.queries(model.network, tiny.folder, QUERIES)
    assert largest_difference(embed(model, *QUERIES), expected) <= EQUAL


sizes = st.integers(20, 200)
items = st.one_of(st.builds(page, sizes, sizes, st.integers(0, 9)), st.sampled_from(QUERIES))


@pytest.mark.parametrize(("precision", "examples"), [("fp32", 8), ("bf16", 4), ("nf4", 4)])
def test_batch_neighbours_size_and_order_do_not_change_an_item(tiny: Tiny, precision: str, examples: int) -> None:
    model = tiny.model(precision)

    @hypothesis_settings(max_examples=examples, deadline=None)
    @given(st.lists(items, min_size=2, max_size=4), st.data())
    def check(batch: list[Page | str], data: st.DataObject) -> None:
        order = data.draw(st.permutations(range(len(batch))))
        together = embed(model, *(batch[index] for index in order))
        for index, vectors in zip(order, together, strict=True):
            assert cosine_distance(vectors, embed(model, batch[index])[0]) <= COSINE_TOLERANCES[precision]

    check()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_vectors_are_float32_of_unit_length_in_every_precision(tiny: Tiny, precision: str) -> None:
    for vectors in embed(tiny.model(precision), page(84, 140), "boiler"):
        assert vectors.dtype == np.float32 and vectors.shape[1] == DIM
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("is_repacked", [None, True, False], ids=["as it is", "repacked", "not repacked"])
def test_nf4_vectors_are_those_of_the_golden_file(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, is_repacked: bool | None
) -> None:
    """On CPUs with AVX512-BF16 bitsandbytes stores 4-bit weights in another layout, and multiplies them otherwise."""
    if is_repacked is not None:
        force_repacking(monkeypatch, is_repacked)
    model = tiny.model("nf4") if is_repacked is None else load(tiny.folder, "nf4").model
    check_golden(tiny.family.name, "nf4", model)
    together = embed(model, *golden_items(), page(120, 90))
    for item, vectors in zip(golden_items(), together, strict=False):
        assert cosine_distance(vectors, embed(model, item)[0]) <= COSINE_TOLERANCES["nf4"]
    check_layers(model.network, tiny.model().network)


def test_vectors_do_not_depend_on_the_number_of_threads(tiny: Tiny) -> None:
    for precision in PRECISIONS:
        model = tiny.model(precision)
        one_thread = embed(model, *golden_items())
        torch.set_num_threads(2)
        try:
            two_threads = embed(model, *golden_items())
        finally:
            torch.set_num_threads(1)
        for one, other in zip(one_thread, two_threads, strict=True):
            assert cosine_distance(one, other) <= COSINE_TOLERANCES[precision]


def test_fp32_vectors_are_those_of_the_golden_file(tiny: Tiny) -> None:
    """Should a new torch or transformers compute something else, collections of both would be mixed."""
    check_golden(tiny.family.name, "fp32", tiny.model())


def force_repacking(monkeypatch: pytest.MonkeyPatch, is_repacked: bool) -> None:
    from bitsandbytes.backends.cpu import ops
    from bitsandbytes.functional import has_avx512bf16
    from bitsandbytes.nn import modules

    if is_repacked and not has_avx512bf16():
        pytest.skip("this CPU has no AVX512-BF16: bitsandbytes cannot repack weights here")
    for module in (modules, ops):
        monkeypatch.setattr(module, "has_avx512bf16", lambda: is_repacked)


def check_layers(quantised: Any, exact: Any) -> None:
    """Each 4-bit layer computes close results and takes half a byte a weight; its layout depends on the CPU."""
    for name, layer in quantised.named_modules():
        if type(layer).__name__ == "Linear4bit":
            original = exact.get_submodule(name)
            assert layer.weight.nbytes <= original.weight.numel() / 2
            drawn = np.random.default_rng(0).standard_normal((64, original.in_features), dtype=np.float32)
            inputs = torch.from_numpy(drawn)
            with torch.inference_mode():
                expected = original(inputs)
                error = (layer(inputs.bfloat16()).float() - expected).norm() / expected.norm()
            assert 0 < error <= NF4_LAYER_ERROR, name


def golden_items() -> tuple[Page, str]:
    return page(60, 50, seed=4), QUERIES[0]


def golden_rows(model: VisualModel) -> list[Vectors]:
    return [vectors[::GOLDEN_STEP] for vectors in embed(model, *golden_items())]


def check_golden(name: str, precision: str, model: VisualModel) -> None:
    golden = [np.array(rows) for rows in json.loads(GOLDEN.read_text())[name][precision]]
    assert largest_difference(golden_rows(model), golden) <= GOLDEN_TOLERANCES[precision]


# Inputs


def test_special_tokens_in_a_query_are_only_text(tiny: Tiny) -> None:
    model = tiny.model()
    tokenizer = tiny.loaded["fp32"].model.family.read_processor(tiny.folder).tokenizer
    hostile = " ".join(tokenizer.all_special_tokens)
    special = set(tokenizer.all_special_ids)

    def special_tokens(query: str) -> list[int]:
        return [token for token in model.prepare(query).token_ids.tolist() if token in special]

    assert special_tokens(hostile) == special_tokens("")


def test_an_endless_query_is_cut(tiny: Tiny) -> None:
    model = tiny.model()
    assert 512 < model.prepare("boiler " * 10_000).cost <= 512 + model.prepare("").cost


def test_a_page_without_its_picture_is_refused(tiny: Tiny) -> None:
    with pytest.raises(BadRequest, match="page 7"):
        tiny.model().prepare(Page(7, 10, 10, b"", "text"))


def test_prompt_tokens_are_dropped_where_that_is_asked_for(tiny: Tiny) -> None:
    whole, one = tiny.model(), page(300, 200)
    kept = embed(whole, one)[0]
    dropped = embed(load(tiny.folder, visual_prompt_tokens="drop").model, one)[0]
    config = whole.network.config
    image_token = getattr(config, "vlm_config", config).image_token_id
    is_image = (whole.prepare(one).token_ids == image_token).numpy()
    is_image[:2] &= tiny.family.name != "neomme"  # the first image token of NeoMME is a marker
    assert largest_difference([dropped], [kept[is_image]]) <= EQUAL


@hypothesis_settings(max_examples=60, deadline=None)
@given(st.integers(1, 4000), st.integers(1, 4000))
def test_a_size_is_kept_or_the_pages_own(tiny: Tiny, height_px: int, width_px: int) -> None:
    sizing = tiny.model().sizing
    size = sizing.size(height_px, width_px)
    assert min(size) >= 1
    assert sizing.size(*fitted_size(sizing, height_px, width_px)) == size


@pytest.mark.parametrize("max_tokens", [0, 16, 40, 2000])
def test_no_page_has_more_rows_than_it_may_have(tiny: Tiny, max_tokens: int) -> None:
    model = load(tiny.folder, visual_max_tokens=max_tokens, visual_prompt_tokens="drop").model
    cap = model.family.token_cap(max_tokens)
    if tiny.family.name == "colqwen2":  # its strips of up to 1 : 200 keep one row of tokens
        cap = max(cap, isqrt(200 * cap))
    for size_px in [(900, 700), (1, 1200), (1200, 1), (1000, 1000)]:
        inputs = model.prepare(page(*size_px))
        assert inputs.cost <= ROWS_PER_PAGE
        assert 1 <= len(torch.arange(inputs.cost)[inputs.kept]) <= cap


# 4-bit weights and the self-test


def test_nf4_quantises_all_linear_layers_but_those_that_the_family_names(tiny: Tiny) -> None:
    model = tiny.model("nf4")
    by_kind: dict[str, set[bool]] = {"Linear": set(), "Linear4bit": set()}
    for name, module in model.network.named_modules():
        if isinstance(module, torch.nn.Linear):
            is_named = any(name == part or name.startswith(f"{part}.") for part in model.family.not_quantised)
            by_kind[type(module).__name__].add(is_named)
    assert by_kind == {"Linear": {True}, "Linear4bit": {False}}


def test_a_quantised_module_that_must_not_be_is_refused(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    first, *others = tiny.model().family.not_quantised
    monkeypatch.setattr(loading, "quantisation", lambda _: quantisation(others))
    with pytest.raises(SelfTestFailed, match=rf"{first}\S* is quantised"):
        load(tiny.folder, "nf4")


def test_a_model_whose_pages_have_more_vectors_than_can_be_stored_is_refused(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selftest, "ROWS_PER_PAGE", 20)
    with pytest.raises(SelfTestFailed, match="Pagemill stores at most 20"):
        verify_model(tiny.model(), "fp32")


def test_other_positions_than_the_familys_are_refused(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.model()
    if not model.family.positions_at:
        pytest.skip("this network numbers its tokens inside")
    published = model.network.forward

    def shifted(**inputs: Any) -> Any:
        """As if the tokens were a line of text that begins at 0."""
        line = torch.arange(inputs["input_ids"].shape[1])[None]
        return published(**{**inputs, "position_ids": line})

    monkeypatch.setattr(model.network, "forward", shifted)
    with pytest.raises(SelfTestFailed, match="positions of image tokens"):
        verify_model(model, "fp32")


def test_no_tile_of_bytes_is_zero_after_normalisation(tiny: Tiny) -> None:
    """ColModernVBert takes such a tile for padding and drops it."""
    if tiny.family.name != "colmodernvbert":
        pytest.skip("only that network drops tiles")
    every_byte = torch.arange(256, dtype=torch.uint8).expand(1, 3, 1, 256)
    images = tiny.model().family.read_processor(tiny.folder).image_processor
    normal = Normaliser(images, torch.device("cpu")).normalise(every_byte)
    assert (normal.bfloat16() != 0).all()


def test_the_fingerprint_names_family_and_cap(tiny: Tiny) -> None:
    loaded = tiny.loaded["nf4"]
    found = fingerprint(loaded, settings(tiny.folder, "nf4"), RenderSettings())
    assert found.startswith(f"{tiny.family.name}/folder@{loaded.version}/nf4/transformers-")
    assert f"/tokens-{loaded.model.family.token_cap(0)}/" in found


async def test_a_worker_can_draw_a_page_for_it_and_have_it_embedded(tiny: Tiny) -> None:
    render = RenderSettings(renderer="pdfium")
    async with open_embedder(settings(tiny.folder, embedder="visual"), render) as embedder:
        await self_test(PdfRenderer(render, max_pages=1), embedder)
        assert embedder.fingerprint.startswith(f"{tiny.family.name}/")
        assert isinstance(embedder, ResizingEmbedder)
        one = page(300, 200)
        assert one.pixels is not None
        resized = embedder.fit(one.pixels)
        assert resized.shape[1::-1] == embedder.fitted_px(200, 300)
        whole, found = await embedder.embed_pages([one, Page(1, 1, 1, b"", "", resized)])
        assert np.abs(whole - found).max() <= EQUAL


def test_every_family_has_its_tests() -> None:
    assert {family.name for family in all_families()} == {family.name for family in FAMILIES}


def write_golden(folder: Path) -> None:
    """After a change that is meant: `python -m tests.contract.test_visual_families FOLDER`."""
    golden: dict[str, dict[str, list[Any]]] = {}
    for family in FAMILIES:
        checkpoint = make_checkpoint(folder / family.name, family.name)
        golden[family.name] = {
            precision: [
                [[round(float(x), 4) for x in row] for row in one]
                for one in golden_rows(load(checkpoint, precision).model)
            ]
            for precision in ("fp32", "nf4")
        }
    GOLDEN.write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    import sys

    write_golden(Path(sys.argv[1]))
