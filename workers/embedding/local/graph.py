"""BERT's encoder over packed texts, as an ONNX graph: only the attention pads them to equal length.

The published BertModel pads a batch to its longest text in every layer; for a batch of short questions, about half of
the work is padding. This graph has the same weights and returns the same values, up to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from workers.embedding.local.weights import Weights

Precision = Literal["fp32", "int8"]

BLOCK_SIZE: Final = 64
"""Inputs of a matrix product that share a scale in int8. Each row of activations has scales of its own, so that the
vectors of a text do not depend on its batch: dynamic quantisation by tensor does not keep that."""

_INT8_ZERO: Final = 128
"""MatMulNBits stores weights of 8 bits as unsigned numbers around this one."""
_INT8_LARGEST: Final = 127
_ACTIVATIONS_IN_INT8: Final = 4
"""The value of `accuracy_level` for products of int8 with int8."""

_OPSET: Final = 20
"""The first with Gelu."""
_IR_VERSION: Final = 10
_CONTRIB: Final = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""


@dataclass(frozen=True, slots=True)
class BertShape:
    """A BertModel with the exact GELU, absolute positions and one segment."""

    dim: int
    layers: int
    heads: int
    norm_epsilon: float


def build_graph(weights: Weights, shape: BertShape, precision: Precision) -> bytes:
    """Return a serialised ONNX model. Its weights in float32 stay in the file of `weights`; those in int8 are within.

    Inputs: `ids` and `positions` (tokens,) int64; `rows` (texts, longest) int64: the token in each place of the padded
    batch; `is_token` (texts, longest) int32; `places` (tokens,) int64: the place of each token in the padded batch.
    Output: `hidden` (tokens, dim) float32.
    """
    return _GraphBuilder(weights, shape, precision).build()


class _GraphBuilder:
    """Methods add nodes and return the names of their outputs."""

    def __init__(self, weights: Weights, shape: BertShape, precision: Precision) -> None:
        self._weights = weights
        self._shape = shape
        self._precision = precision
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, TensorProto] = {}

    def build(self) -> bytes:
        hidden = self._embeddings()
        for number in range(self._shape.layers):
            hidden = self._layer(hidden, f"encoder.layer.{number}")
        self._node("Identity", [hidden], output="hidden")
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            self._nodes,
            "bert",
            [
                value("ids", TensorProto.INT64, ["tokens"]),
                value("positions", TensorProto.INT64, ["tokens"]),
                value("rows", TensorProto.INT64, ["texts", "longest"]),
                value("is_token", TensorProto.INT32, ["texts", "longest"]),
                value("places", TensorProto.INT64, ["tokens"]),
            ],
            [value("hidden", TensorProto.FLOAT, ["tokens", self._shape.dim])],
            list(self._initializers.values()),
        )
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_CONTRIB, 1)]
        model: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION).SerializeToString()
        return model

    def _embeddings(self) -> str:
        words = self._node("Gather", [self._stored("embeddings.word_embeddings.weight"), "ids"])
        segments = self._weights.array("embeddings.token_type_embeddings.weight")
        positions = self._weights.array("embeddings.position_embeddings.weight") + segments[0]
        placed = self._node("Gather", [self._constant("positions_of_first_segment", positions), "positions"])
        return self._norm(self._node("Add", [words, placed]), "embeddings.LayerNorm")

    def _layer(self, hidden: str, layer: str) -> str:
        attended = self._linear(
            self._attention(hidden, f"{layer}.attention.self"), [f"{layer}.attention.output.dense"]
        )
        hidden = self._norm(self._node("Add", [attended, hidden]), f"{layer}.attention.output.LayerNorm")
        inner = self._node("Gelu", [self._linear(hidden, [f"{layer}.intermediate.dense"])])
        output = self._linear(inner, [f"{layer}.output.dense"])
        return self._norm(self._node("Add", [output, hidden]), f"{layer}.output.LayerNorm")

    def _attention(self, hidden: str, name: str) -> str:
        """(tokens, dim) -> (tokens, dim). A token attends to the tokens of its own text only."""
        qkv = self._linear(hidden, [f"{name}.query", f"{name}.key", f"{name}.value"])
        padded = self._node("Gather", [qkv, "rows"])  # (texts, longest, 3 * dim)
        parts = [f"{name}.{part}.padded" for part in ("query", "key", "value")]
        self._nodes.append(helper.make_node("Split", [padded], parts, axis=-1, num_outputs=3))
        attended = self._node(
            "MultiHeadAttention", [*parts, "", "is_token"], domain=_CONTRIB, num_heads=self._shape.heads
        )
        flat_shape = self._constant("flat_shape", np.array([-1, self._shape.dim], np.int64))
        return self._node("Gather", [self._node("Reshape", [attended, flat_shape]), "places"])

    def _linear(self, hidden: str, layers: Sequence[str]) -> str:
        """The outputs of these linear layers side by side, by one matrix product."""
        weights = [self._weights.array(f"{layer}.weight") for layer in layers]  # (out, in) each
        bias = self._constant(
            f"{layers[0]}.biases", np.concatenate([self._weights.array(f"{layer}.bias") for layer in layers])
        )
        if self._precision == "int8":
            return self._int8_linear(hidden, layers[0], np.concatenate(weights), bias)
        stored = [self._stored(f"{layer}.weight") for layer in layers]
        weight = stored[0] if len(stored) == 1 else self._node("Concat", stored, axis=0)  # done once, at the load
        return self._node("Gemm", [hidden, weight, bias], transB=1)

    def _int8_linear(self, hidden: str, name: str, weight: NDArray[np.float32], bias: str) -> str:
        rows, columns = weight.shape
        quantised, scales = quantise(weight)
        inputs = [hidden, self._constant(f"{name}.int8", quantised), self._constant(f"{name}.scales", scales)]
        return self._node(
            "MatMulNBits",
            [*inputs, "", "", bias],
            domain=_CONTRIB,
            K=columns,
            N=rows,
            bits=8,
            block_size=BLOCK_SIZE,
            accuracy_level=_ACTIVATIONS_IN_INT8,
        )

    def _norm(self, hidden: str, name: str) -> str:
        inputs = [hidden, self._stored(f"{name}.weight"), self._stored(f"{name}.bias")]
        return self._node("LayerNormalization", inputs, axis=-1, epsilon=self._shape.norm_epsilon)

    def _node(self, operator: str, inputs: Sequence[str], *, output: str = "", domain: str = "", **fields: Any) -> str:
        output = output or f"{operator}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [output], domain=domain, **fields))
        return output

    def _stored(self, name: str) -> str:
        self._initializers[name] = self._weights.reference(name)
        return name

    def _constant(self, name: str, values: NDArray[Any]) -> str:
        self._initializers[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name


def quantise(weight: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """(out, in) -> numbers (out, in / BLOCK_SIZE, BLOCK_SIZE) uint8 around 128, and scales (out, in / BLOCK_SIZE)."""
    blocks = weight.reshape(len(weight), -1, BLOCK_SIZE)
    scales = np.maximum(np.abs(blocks).max(axis=-1) / np.float32(_INT8_LARGEST), np.finfo(np.float32).tiny)
    numbers = np.rint(blocks / scales[..., None]) + _INT8_ZERO
    return numbers.astype(np.uint8), scales
