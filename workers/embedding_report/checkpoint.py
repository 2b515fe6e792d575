"""A checkpoint of the published size with random weights: its time and memory are those of the trained one.

The architecture comes from the code of transformers and from the numbers below. Nothing is fetched. The tokenizer is a
small one: it makes more tokens of a query than the published one does, and the same of a page.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import ColQwen2Config, ColQwen2ForRetrieval, ColQwen2Processor, PreTrainedTokenizerFast
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

_SHARD_BYTES: Final = 1024**3
_BLOCK_VALUES: Final = 4_194_301
"""Random values that are repeated. A prime number: no two rows of a matrix are equal."""
_STD: Final = 0.02
_QWEN2_TOKENS: Final = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)


@dataclass(frozen=True, slots=True)
class Architecture:
    """The network of a family, and what makes its processor, and its configuration for that processor."""

    network_class: Any
    config: Callable[[Any], Any]
    processor: Callable[[], Any]


def _colqwen2_config(processor: Any) -> ColQwen2Config:
    """vidore/colqwen2-v1.0-hf: Qwen2-VL 2B and a projection to 128 dimensions."""
    special = processor.tokenizer.convert_tokens_to_ids
    text = {
        "model_type": "qwen2_vl_text",
        "vocab_size": 151_936,
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32_768,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
        "bos_token_id": None,
        "eos_token_id": special("<|im_end|>"),
    }
    vision = {
        "model_type": "qwen2_vl_vision",
        "depth": 32,
        "embed_dim": 1280,
        "hidden_size": 1536,
        "num_heads": 16,
        "mlp_ratio": 4,
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
    return ColQwen2Config(vlm_config=vlm, embedding_dim=128)


def _colqwen2_processor() -> Any:
    images = Qwen2VLImageProcessorPil(size={"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 768})
    return ColQwen2Processor(image_processor=images, tokenizer=_byte_tokenizer(_QWEN2_TOKENS, "<|im_end|>"))


ARCHITECTURES: Final = {"colqwen2": Architecture(ColQwen2ForRetrieval, _colqwen2_config, _colqwen2_processor)}
"""By the name of the family."""


def write_random_checkpoint(architecture: Architecture, folder: Path) -> int:
    """Write what `from_pretrained` reads, a GB at a time. Returns the number of parameters. Raises OSError."""
    processor = architecture.processor()
    with torch.device("meta"):
        network = architecture.network_class(architecture.config(processor))
    folder.mkdir(parents=True, exist_ok=True)
    processor.save_pretrained(folder)
    network.config.architectures = [architecture.network_class.__name__]
    network.config.save_pretrained(folder)
    places: dict[str, str] = {}
    total = 0
    for number, shard in enumerate(_shards(_random_weights(network)), start=1):
        name = f"model-{number:05d}.safetensors"
        save_file(shard, folder / name, metadata={"format": "pt"})
        places |= dict.fromkeys(shard, name)
        total += sum(weight.numel() for weight in shard.values())
    index = {"metadata": {"total_size": 2 * total}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return total


def _random_weights(network: Any) -> Iterator[tuple[str, Tensor]]:
    """Names and BF16 values of all parameters: N(0, 0.02), norms 1, biases 0."""
    block = torch.randn(_BLOCK_VALUES, generator=torch.Generator().manual_seed(20)).mul_(_STD).to(torch.bfloat16)
    for name, weight in network.state_dict().items():
        if weight.ndim < 2:
            yield name, torch.full(weight.shape, float(_is_norm(name)), dtype=torch.bfloat16)
            continue
        start = zlib.crc32(name.encode()) % _BLOCK_VALUES
        rolled = torch.roll(block, start)
        repeats = -(-weight.numel() // _BLOCK_VALUES)
        yield name, rolled.repeat(repeats)[: weight.numel()].view(weight.shape).clone()


def _is_norm(name: str) -> bool:
    """A norm's weight is named `...norm.weight`, `...norm1.weight`, `...layernorm.weight` or `ln_q.weight`."""
    return name.endswith("weight") and ("norm" in name or "ln_" in name)


def _shards(weights: Iterator[tuple[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
    shard: dict[str, Tensor] = {}
    size = 0
    for name, weight in weights:
        shard[name] = weight
        size += weight.nbytes
        if size >= _SHARD_BYTES:
            yield shard
            shard, size = {}, 0
    if shard:
        yield shard


def _byte_tokenizer(special: tuple[str, ...], end: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE without merges."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, special=True) for token in special])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend, pad_token=special[0], eos_token=end, padding_side="left"
    )
