"""Hierarchical token pooling: fewer vectors per page, by merging similar ones.

After Clavié, Chaffin and Adams, "Reducing the Footprint of Multi-Vector Retrieval with Minimal Performance Impact via
Token Pooling", 2024: Ward's clustering of one page's vectors, and the mean of each cluster in place of its members.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform

from ingestion.model import Vectors

_BLOCK_TOKENS: Final = 1024


def pool(vectors: Vectors, factor: int) -> Vectors:
    """(tokens, dim) -> (ceil(tokens / factor), dim), rows of unit length, in the order of each cluster's first member.

    Factor 1 returns the vectors as they are. The same vectors always give the same result.
    """
    clusters = math.ceil(len(vectors) / factor)
    if clusters == len(vectors):
        return vectors
    labels = _ward(vectors, clusters)  # (tokens,)
    members = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[members], np.arange(clusters))  # of each cluster, in `members`
    sums = np.add.reduceat(vectors[members].astype(np.float64), starts)  # the mean's direction is the sum's
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    # The sum of members that cancel each other out has no direction; their first member is used.
    pooled = np.where(lengths > 0, sums / np.where(lengths > 0, lengths, 1), vectors[members[starts]])
    return pooled.astype(np.float32)


def merge_to(rows: int, vectors: Vectors) -> Vectors:
    """(tokens, dim) -> at most `rows` rows. Blocks of neighbouring tokens are pooled one by one: the clustering takes
    memory and time by the square of their number."""
    if len(vectors) <= rows:
        return vectors
    blocks = math.ceil(len(vectors) / _BLOCK_TOKENS)
    factor = math.ceil(len(vectors) / (rows - blocks))
    return np.concatenate([pool(block, factor) for block in np.array_split(vectors, blocks)])


def _ward(vectors: Vectors, clusters: int) -> NDArray[np.intp]:
    """The cluster of each vector, (tokens,), numbered by first member.

    The distances are between the vectors themselves. A square matrix of similarities passed to `linkage`, as is often
    seen, has its rows clustered as points: other clusters, and eight times the work.
    """
    tokens = len(vectors)
    merged = linkage(_distances(vectors), "ward")[: tokens - clusters, :2].astype(np.intp)
    parents = np.arange(2 * tokens - 1)
    parents[merged] = np.arange(tokens, tokens + len(merged))[:, None]
    while (parents[parents] != parents).any():
        parents = parents[parents]
    _, first, labels = np.unique(parents[:tokens], return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[labels]


def _distances(vectors: Vectors) -> NDArray[np.float64]:
    """Between each two of the vectors, which have unit length: (tokens * (tokens - 1) / 2,), from one product."""
    squares = vectors @ vectors.T  # (tokens, tokens), and computed in place: at this size allocations cost most
    squares *= -2
    squares += 2
    np.sqrt(squares.clip(min=0, out=squares), out=squares)
    distances: NDArray[np.float32] = squareform(squares, checks=False)
    return distances.astype(np.float64)
