"""What ColQwen2 alone does with prompts, padding and masks; test_visual_families.py compares its vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch

from ingestion.settings import EmbedderSettings
from tests.support.tiny_checkpoints import DIM, embed, largest_difference, page
from workers.embedding.visual.loading import load_model
from workers.embedding.visual.model import VisualModel

pytestmark = pytest.mark.usefixtures("one_torch_thread")

PROMPT_TOKENS: Final = 12
"""Around a page's image, with the tiny tokenizer."""

EQUAL: Final = 1e-5
"""Largest difference of a component in float32. Sums are added up in another order on another CPU."""


def model_of(checkpoint: Path, **changes: Any) -> VisualModel:
    values = {"visual_model": str(checkpoint), "visual_precision": "fp32", "visual_device": "cpu", **changes}
    return load_model(EmbedderSettings.model_validate(values)).model


@pytest.fixture(scope="module")
def exact(checkpoint: Path) -> VisualModel:
    return model_of(checkpoint)


@pytest.fixture(scope="module")
def processor(checkpoint: Path) -> Any:
    from transformers import ColQwen2Processor

    return ColQwen2Processor.from_pretrained(checkpoint)


def test_a_query_ends_in_ten_augmentation_tokens_and_a_newline(exact: VisualModel, processor: Any) -> None:
    tokenizer = processor.tokenizer
    ids = exact.prepare("boiler").token_ids.tolist()
    assert tokenizer.decode(ids) == "Query: boiler" + "<|endoftext|>" * 10 + "\n"
    # They look like padding and are not: each has its vector.
    assert len(embed(exact, "boiler", "a much longer question about the boiler")[0]) == len(ids)


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


def test_pooling_merges_the_vectors_of_pages_and_not_those_of_queries(checkpoint: Path, exact: VisualModel) -> None:
    pooled = model_of(checkpoint, token_pooling=3)
    (of_page, of_query), (_, whole_query) = (embed(m, page(280, 280), "boiler") for m in (pooled, exact))
    assert of_page.shape == (38, DIM)
    assert largest_difference([of_query], [whole_query]) <= EQUAL
