"""A checkpoint of each family with seeded random weights: the real architecture, small enough to run in milliseconds.

The weights pass through the same classes, files and quantisation as trained ones. numpy draws them from their names: a
new version of torch or transformers does not change them.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from ingestion.model import Page, Vectors
from workers.embedding.visual.model import VisualModel
from workers.embedding_report.architectures import ARCHITECTURES, Architecture, Sizes

DIM: Final = 32
HIDDEN: Final = 64

_TEXT: Final = {
    "hidden_size": HIDDEN,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
_GROUPED: Final = {"num_key_value_heads": 2}
_SIGLIP: Final = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
_SIZES: Final = {
    "colqwen2": Sizes(
        text={
            **_TEXT,
            **_GROUPED,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]},
        },
        vision={"depth": 2, "embed_dim": 32, "hidden_size": HIDDEN, "num_heads": 2, "mlp_ratio": 2},
        dim=DIM,
    ),
    "colpali": Sizes(
        # Key and value heads have 32 outputs together, the least that bitsandbytes repacks.
        text={**_TEXT, **_GROUPED, "head_dim": 16},
        vision={**_SIGLIP, "patch_size": 14},
        dim=DIM,
        image_px=56,
        image_tokens=16,
    ),
    "colmodernvbert": Sizes(
        text={**_TEXT, "local_attention": 16, "global_attn_every_n_layers": 2},
        vision={**_SIGLIP, "patch_size": 16},
        vlm={"pixel_shuffle_factor": 2},
        dim=DIM,
        image_px=64,
        image_tokens=4,
    ),
    "neomme": Sizes(
        text={
            **_TEXT,
            **_GROUPED,
            "embedding_rank": 32,
            "layer_types": ["sliding_attention", "full_attention"],
            "sliding_window": 8,
            "head_dim": 16,
            "patch_size": 16,
        },
        vision={},
        dim=DIM,
    ),
}
_TRAINING_TEXT: Final = (
    "user assistant Describe the image.",
    "Query: what is the pressure of the boiler in the annual report?",
    "The harbour wind table lists valves, quays and naïve café prices in euros.",
)


def make_checkpoint(folder: Path, family: str = "colqwen2") -> Path:
    """Write the model, tokenizer and processor files of a published repository. Returns `folder`."""
    architecture = tiny_architecture(family)
    seed_weights(architecture.network_class(architecture.prepare(folder))).save_pretrained(folder)
    return folder


def tiny_architecture(family: str) -> Architecture:
    return replace(ARCHITECTURES[family], sizes=_SIZES[family], new_tokenizer=make_tokenizer)


def seed_weights(model: Any) -> Any:
    """Draw the weights of `model`: N(0, 1) / sqrt(inputs); norms are 1, biases are small. Returns it."""
    model.eval()
    for name, weight in model.named_parameters():
        draw = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(tuple(weight.shape), dtype=np.float32)
        scale = weight[0].numel() ** -0.5 if weight.ndim > 1 else 0.1
        offset = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        weight.data = torch.from_numpy(offset + scale * draw)
    return model


def page_pixels(height_px: int, width_px: int, seed: int = 0) -> NDArray[np.uint8]:
    """A page-like image, (height_px, width_px, 3) uint8: white with coloured blocks and one of noise."""
    draw = np.random.default_rng(seed)
    pixels = np.full((height_px, width_px, 3), 255, np.uint8)
    for _ in range(12):
        top, left = draw.integers(0, height_px), draw.integers(0, width_px)
        block = pixels[top : top + height_px // 6 + 1, left : left + width_px // 3 + 1]
        block[:] = draw.integers(0, 256, 3)
    corner = pixels[: height_px // 3, : width_px // 3]
    corner[:] = draw.integers(0, 256, corner.shape)
    return pixels


def page(height_px: int, width_px: int, seed: int = 0) -> Page:
    return Page(1, width_px, height_px, b"", "", page_pixels(height_px, width_px, seed))


def embed(model: VisualModel, *items: Page | str) -> list[Vectors]:
    inputs = [model.prepare(item) for item in items]
    return model.finish(model.forward(inputs), inputs)


def largest_difference(found: Sequence[Vectors], expected: Sequence[Vectors]) -> float:
    """Of a component. The shapes must be equal."""
    assert [one.shape for one in found] == [other.shape for other in expected]
    return max(float(np.abs(one - other).max()) for one, other in zip(found, expected, strict=True))


def make_tokenizer(pad: str, names: tuple[str, ...], **options: Any) -> PreTrainedTokenizerFast:
    """A byte-level BPE like Qwen2's, with a few hundred tokens, merges among them."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(_TRAINING_TEXT, trainer)
    backend.add_special_tokens([AddedToken(token, special=True) for token in (pad, *names)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token=pad, **options)  # type: ignore[no-untyped-call]
