"""A ColQwen2 checkpoint with seeded random weights: the real architecture, small enough to run in milliseconds.

The weights pass through the same classes, files and quantisation as trained ones. numpy draws them from their names: a
new version of torch or transformers does not change them.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import ColQwen2Config, ColQwen2ForRetrieval, ColQwen2Processor, PreTrainedTokenizerFast
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

DIM: Final = 32
HIDDEN: Final = 64

_SPECIAL_TOKENS: Final = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
_TOKENIZER: Final[dict[str, Any]] = {
    "pad_token": "<|endoftext|>",
    "eos_token": "<|im_end|>",
    "padding_side": "left",
}
_TRAINING_TEXT: Final = (
    "user assistant Describe the image.",
    "Query: what is the pressure of the boiler in the annual report?",
    "The harbour wind table lists valves, quays and naïve café prices in euros.",
)


def make_checkpoint(folder: Path) -> Path:
    """Write the model, tokenizer and processor files of a published repository. Returns `folder`."""
    processor = make_processor()
    make_model(processor.tokenizer).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def make_processor() -> Any:
    images = Qwen2VLImageProcessorPil(size={"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 768})
    return ColQwen2Processor(image_processor=images, tokenizer=make_tokenizer(_SPECIAL_TOKENS, **_TOKENIZER))


def make_model(tokenizer: Any) -> Any:
    """A float32 model with seeded weights."""
    return seed_weights(ColQwen2ForRetrieval(_config(tokenizer)))


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


def _config(tokenizer: Any) -> ColQwen2Config:
    special = tokenizer.convert_tokens_to_ids
    text = {
        "model_type": "qwen2_vl_text",
        "vocab_size": len(tokenizer),
        "hidden_size": HIDDEN,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]},
        "bos_token_id": None,
        "eos_token_id": special("<|im_end|>"),
    }
    vision = {
        "model_type": "qwen2_vl_vision",
        "depth": 2,
        "embed_dim": 32,
        "hidden_size": HIDDEN,
        "num_heads": 2,
        "mlp_ratio": 2,
    }
    vlm = {
        "model_type": "qwen2_vl",
        "text_config": text,
        "vision_config": vision,
        "image_token_id": special("<|image_pad|>"),
        "video_token_id": special("<|video_pad|>"),
        "vision_start_token_id": special("<|vision_start|>"),
        "vision_end_token_id": special("<|vision_end|>"),
    }
    return ColQwen2Config(vlm_config=vlm, embedding_dim=DIM)


def make_tokenizer(special_tokens: Sequence[str], **options: Any) -> PreTrainedTokenizerFast:
    """A byte-level BPE like Qwen2's, with a few hundred tokens. `options` are those of PreTrainedTokenizerFast."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(_TRAINING_TEXT, trainer)
    backend.add_special_tokens([AddedToken(token, special=True) for token in special_tokens])
    return PreTrainedTokenizerFast(tokenizer_object=backend, **options)  # type: ignore[no-untyped-call]
