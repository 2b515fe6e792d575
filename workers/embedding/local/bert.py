"""BERT's encoder over packed texts: only the attention pads them to equal length.

transformers' BertModel pads a batch to its longest text in every layer; for a batch of short questions, about half of
the work is padding. This encoder uses the weights of the BertModel and returns the same values, up to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class Affine(NamedTuple):
    """Weight (out, in) and bias (out,) of a linear layer, or both (dim,) of a layer norm."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True, slots=True)
class Layer:
    """One encoder layer. `qkv` computes queries, keys and values at once: its weight is (3 * dim, dim)."""

    qkv: Affine
    attention_output: Affine
    attention_norm: Affine
    intermediate: Affine
    output: Affine
    output_norm: Affine


class PackedBert:
    """The encoder of a transformers BertModel. Stateless: threads may share it."""

    def __init__(self, model: Any) -> None:
        """`model`: a BertModel with the exact GELU, absolute positions and one segment. Shares its weights."""
        config, embeddings = model.config, model.embeddings
        self.dim: int = config.hidden_size
        self._heads: int = config.num_attention_heads
        self._epsilon: float = config.layer_norm_eps
        self._word_embeddings: Tensor = embeddings.word_embeddings.weight.detach()
        first_segment = embeddings.token_type_embeddings.weight[0]
        self._position_embeddings: Tensor = (embeddings.position_embeddings.weight + first_segment).detach()
        self._embedding_norm = _affine(embeddings.LayerNorm)
        self._layers = [_layer(layer) for layer in model.encoder.layer]

    @torch.inference_mode()
    def __call__(self, texts: Sequence[Tensor]) -> Tensor:
        """`texts`: token ids of each text, (tokens,) int64, special tokens included.

        Returns the hidden states of all texts one after the other: (sum of tokens, dim) float32.
        """
        shape = _Shape([len(text) for text in texts])
        hidden = self._norm(
            self._word_embeddings[torch.cat(list(texts))] + self._position_embeddings[shape.positions],
            self._embedding_norm,
        )
        for layer in self._layers:
            attention = functional.linear(
                self._attend(functional.linear(hidden, *layer.qkv), shape), *layer.attention_output
            )
            hidden = self._norm(attention.add_(hidden), layer.attention_norm)
            inner = functional.gelu(functional.linear(hidden, *layer.intermediate))
            hidden = self._norm(functional.linear(inner, *layer.output).add_(hidden), layer.output_norm)
        return hidden

    def _attend(self, qkv: Tensor, shape: _Shape) -> Tensor:
        """(tokens, 3 * dim) -> (tokens, dim). A token attends to the tokens of its own text only."""
        padded = shape.pad(qkv).view(shape.texts, shape.longest, 3, self._heads, self.dim // self._heads)
        queries, keys, values = padded.permute(2, 0, 3, 1, 4)  # (texts, heads, longest, dim / heads)
        attended = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=shape.mask)
        return shape.unpad(attended.transpose(1, 2).reshape(-1, self.dim))

    def _norm(self, hidden: Tensor, norm: Affine) -> Tensor:
        return functional.layer_norm(hidden, (self.dim,), norm.weight, norm.bias, self._epsilon)


class _Shape:
    """Index maps between packed tokens, (tokens,), and texts padded to the longest, (texts * longest,)."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self.texts, self.longest = len(lengths), max(lengths)
        within = torch.arange(self.longest)
        is_token = within < torch.tensor(lengths)[:, None]  # (texts, longest)
        self.positions = within.expand_as(is_token)[is_token]  # (tokens,), from 0 in each text
        self.mask: Tensor | None = None
        if min(lengths) < self.longest:
            self.mask = torch.zeros(is_token.shape).masked_fill_(~is_token, float("-inf"))[
                :, None, None
            ]  # (texts, 1, 1, longest)
            self._tokens = is_token.view(-1).nonzero().squeeze(1)  # (tokens,), rows in the padded batch
            # Padding copies the first token: a finite value, which the mask hides.
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
        attention_output=_affine(attention.output.dense),
        attention_norm=_affine(attention.output.LayerNorm),
        intermediate=_affine(layer.intermediate.dense),
        output=_affine(layer.output.dense),
        output_norm=_affine(layer.output.LayerNorm),
    )


def _affine(module: Any) -> Affine:
    return Affine(module.weight.detach(), module.bias.detach())
