"""Requests to an embedding service, and how its answers are read."""

from __future__ import annotations

import base64
import itertools

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.adapters.embedding.wire import batches, read_model, read_vectors
from ingestion.errors import WorkerFault


@given(st.lists(st.text(max_size=20)), st.integers(1, 8), st.integers(1, 40))
def test_batches_are_the_inputs_in_order_within_both_bounds(inputs: list[str], most: int, chars: int) -> None:
    found = list(batches(inputs, max_inputs=most, max_chars=chars))
    assert [one for batch in found for one in batch] == inputs
    for batch in found:
        assert 1 <= len(batch) <= most
        assert len(batch) == 1 or sum(map(len, batch)) <= chars


@given(st.lists(st.text(max_size=20), min_size=1), st.integers(1, 8), st.integers(1, 40))
def test_no_batch_could_have_taken_the_next_input(inputs: list[str], most: int, chars: int) -> None:
    found = list(batches(inputs, max_inputs=most, max_chars=chars))
    for batch, following in itertools.pairwise(found):
        assert len(batch) == most or sum(map(len, batch)) + len(following[0]) > chars


def answer(*items: dict[str, object]) -> bytes:
    return orjson.dumps({"data": items})


def item(index: int, rows: int, dim: int = 4) -> dict[str, object]:
    numbers = np.full(rows * dim, index, "<f4").tobytes()
    return {"index": index, "embedding": base64.b64encode(numbers).decode(), "shape": [rows, dim]}


def test_vectors_are_read_in_the_order_of_their_index() -> None:
    found = read_vectors(answer(item(1, 3), item(0, 2)), count=2, dim=4)
    assert [vectors.shape for vectors in found] == [(2, 4), (3, 4)]
    assert [vectors[0, 0] for vectors in found] == [0.0, 1.0]


@pytest.mark.parametrize(
    "body",
    [
        b"<html>a proxy's page</html>",
        b"[]",
        b'{"data": [1]}',
        answer(item(0, 2)),
        answer(item(0, 2), item(1, 2, dim=5)),
        answer(item(0, 2), {**item(1, 2), "shape": [3, 4]}),
        answer(item(0, 2), {**item(1, 2), "embedding": "no base64!"}),
        answer(item(0, 2), {**item(1, 2), "shape": None}),
    ],
)
def test_an_answer_that_does_not_fit_the_question_is_a_fault(body: bytes) -> None:
    with pytest.raises(WorkerFault):
        read_vectors(body, count=2, dim=4)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"data": []}', b'{"data": [{"id": "gpt"}]}', b'{"data": ["model"]}'])
def test_a_list_of_models_that_is_not_pagemills_is_a_fault(body: bytes) -> None:
    with pytest.raises(WorkerFault):
        read_model(body)
