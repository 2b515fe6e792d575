"""MiniLM's encoder on ONNX Runtime."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from ingestion.model import Vectors
from workers.embedding.local.graph import BertShape, Precision, build_graph
from workers.embedding.local.weights import Weights

TokenIds = NDArray[np.int64]
"""Token ids of a text, (tokens,), special tokens included."""

_ERRORS_ONLY: Final = 3


class Encoder:
    """Several threads may call it in parallel: each call computes in the thread that makes it."""

    def __init__(self, folder: Path, precision: Precision) -> None:
        """`folder`: config.json and model.safetensors of a BertModel. Takes about a second."""
        config = json.loads((folder / "config.json").read_text())
        self.dim: int = config["hidden_size"]
        shape = BertShape(
            self.dim, config["num_hidden_layers"], config["num_attention_heads"], config["layer_norm_eps"]
        )
        weights = folder.resolve() / "model.safetensors"
        self._session = _open_session(build_graph(Weights(weights), shape, precision), weights.parent)

    def __call__(self, texts: Sequence[TokenIds]) -> Vectors:
        """The hidden states of all texts one after the other: (sum of tokens, dim) float32."""
        [hidden] = self._session.run(
            ["hidden"], {"ids": np.concatenate(texts), **_layout([len(text) for text in texts])}
        )
        vectors: Vectors = hidden
        return vectors


def _open_session(graph: bytes, folder: Path) -> onnxruntime.InferenceSession:
    """`folder` holds the files that the graph points into."""
    options = onnxruntime.SessionOptions()
    # Threads that share a batch wait for each other in every layer. Batches run in parallel instead.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    # Its plan of the memory is kept for each shape of a batch, and there are thousands of them.
    options.enable_mem_pattern = False
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _layout(lengths: Sequence[int]) -> dict[str, NDArray[np.int64] | NDArray[np.int32]]:
    """The inputs of the graph that map packed tokens to texts padded to the longest, and back."""
    within = np.arange(max(lengths))
    is_token = within < np.array(lengths)[:, None]  # (texts, longest)
    places = np.flatnonzero(is_token)
    # Padding copies the first token: a finite value, which the attention ignores.
    rows = np.zeros(is_token.shape, np.int64)
    rows.flat[places] = np.arange(len(places))
    return {
        "positions": np.broadcast_to(within, is_token.shape)[is_token],  # from 0 in each text
        "rows": rows,
        "is_token": is_token.astype(np.int32),
        "places": places,
    }
