"""A checkpoint of the published size with random weights: its time and memory are those of the trained one."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save_file
from torch import Tensor

from workers.embedding_report.architectures import Architecture

_SHARD_BYTES: Final = 1024**3
_BLOCK_VALUES: Final = 4_194_301
"""Random values that are repeated. A prime number: no two rows of a matrix are equal."""
_STD: Final = 0.02


def write_random_checkpoint(architecture: Architecture, folder: Path) -> int:
    """Write what `from_pretrained` reads, a GB at a time. Returns the number of parameters. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    config = architecture.prepare(folder)
    with torch.device("meta"):
        network = architecture.network_class(config)
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
