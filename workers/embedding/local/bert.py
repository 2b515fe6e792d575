"""BERT's encoder over texts of different lengths without padding them, except where tokens look at each other.

transformers' model pads a batch to its longest text in every layer. Of short questions about half is padding then, and
they are most of what an embedding service is asked. The weights are those of transformers' model, and so are the
results, up to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class Affine(NamedTuple):
    """Weight and bias of a linear layer or of a layer norm."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True, slots=True)
class Layer:
    """`qkv` computes queries, keys and values at once: (3 * dim, dim)."""

    qkv: Affine
    attended: Affine
    attention_norm: Affine
    widened: Affine
    narrowed: Affine
    output_norm: Affine


class PackedBert:
    """The encoder of a transformers BertModel. Keeps no state, so threads may share it."""

    def __init__(self, model: Any) -> None:
        """`model`: a BertModel with the exact GELU, absolute positions and one segment; its weights are shared."""
        config, embeddings = model.config, model.embeddings
        self.dim: int = config.hidden_size
        self._heads: int = config.num_attention_heads
        self._epsilon: float = config.layer_norm_eps
        self._words: Tensor = embeddings.word_embeddings.weight.detach()
        first_segment = embeddings.token_type_embeddings.weight[0]
        self._places: Tensor = (embeddings.position_embeddings.weight + first_segment).detach()
        self._embedding_norm = _affine(embeddings.LayerNorm)
        self._layers = [_layer(layer) for layer in model.encoder.layer]

    @torch.inference_mode()
    def __call__(self, texts: Sequence[Tensor]) -> Tensor:
        """`texts`: token ids (tokens,) of each, special ones included. Hidden states of all tokens: (tokens, dim)."""
        shape = _Shape([len(text) for text in texts])
        hidden = self._norm(self._words[torch.cat(list(texts))] + self._places[shape.places], self._embedding_norm)
        for layer in self._layers:
            attention = functional.linear(self._attend(functional.linear(hidden, *layer.qkv), shape), *layer.attended)
            hidden = self._norm(attention.add_(hidden), layer.attention_norm)
            inner = functional.gelu(functional.linear(hidden, *layer.widened))
            hidden = self._norm(functional.linear(inner, *layer.narrowed).add_(hidden), layer.output_norm)
        return hidden

    def _attend(self, qkv: Tensor, shape: _Shape) -> Tensor:
        """(tokens, 3 * dim) -> (tokens, dim), each token looking at those of its own text."""
        padded = shape.pad(qkv).view(shape.texts, shape.longest, 3, self._heads, self.dim // self._heads)
        queries, keys, values = padded.permute(2, 0, 3, 1, 4)  # (texts, heads, longest, dim / heads)
        seen = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=shape.mask)
        return shape.unpad(seen.transpose(1, 2).reshape(-1, self.dim))

    def _norm(self, hidden: Tensor, norm: Affine) -> Tensor:
        return functional.layer_norm(hidden, (self.dim,), norm.weight, norm.bias, self._epsilon)


class _Shape:
    """Where the tokens of a batch are: packed one text after the other, or padded to the longest."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self.texts, self.longest = len(lengths), max(lengths)
        within = torch.arange(self.longest)
        is_token = within < torch.tensor(lengths)[:, None]  # (texts, longest)
        self.places = within.expand_as(is_token)[is_token]  # (tokens,): from 0 in each text
        self.mask: Tensor | None = None
        if min(lengths) < self.longest:
            self.mask = torch.zeros(is_token.shape).masked_fill_(~is_token, float("-inf"))[:, None, None]
            self._tokens = is_token.view(-1).nonzero().squeeze(1)  # (tokens,): their rows in the padded batch
            # Padding is a copy of the first token: of a number, at least, and nobody looks at it.
            self._rows = torch.zeros(is_token.numel(), dtype=torch.long).index_copy_(
                0, self._tokens, torch.arange(len(self._tokens))
            )

    def pad(self, packed: Tensor) -> Tensor:
        return packed if self.mask is None else packed.index_select(0, self._rows)

    def unpad(self, padded: Tensor) -> Tensor:
        return padded if self.mask is None else padded.index_select(0, self._tokens)


def _layer(layer: Any) -> Layer:
    attention = layer.attention
    projections = (attention.self.query, attention.self.key, attention.self.value)
    return Layer(
        qkv=Affine(
            torch.cat([projection.weight.detach() for projection in projections]),
            torch.cat([projection.bias.detach() for projection in projections]),
        ),
        attended=_affine(attention.output.dense),
        attention_norm=_affine(attention.output.LayerNorm),
        widened=_affine(layer.intermediate.dense),
        narrowed=_affine(layer.output.dense),
        output_norm=_affine(layer.output.LayerNorm),
    )


def _affine(module: Any) -> Affine:
    return Affine(module.weight.detach(), module.bias.detach())
