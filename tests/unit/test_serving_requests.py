"""Requests cost no more to read than they may be right."""

from __future__ import annotations

import tracemalloc

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.settings import ServingSettings
from workers.embedding.serving.json_limits import check_values
from workers.embedding.serving.requests import read_request
from workers.embedding.serving.service_errors import ServiceError

LIMITS = ServingSettings()
SIZE = 1024**2
MOST_BYTES = 256 * 1024
"""Python memory for refusing a body of SIZE; what a parser makes of it takes ten to a hundred times SIZE."""


@pytest.mark.parametrize(
    "body",
    [
        b'{"input":[' + b"0," * (SIZE // 2) + b"0]}",
        b'{"input":[' + b'"",' * (SIZE // 3) + b'""]}',
        b'{"input":[' + b"{}," * (SIZE // 3) + b"{}]}",
        b'{"input":["a"' + b',"a"' * (SIZE // 4) + b"]}",
        b"{" + b",".join(b'"%x":1' % number for number in range(SIZE // 8)) + b"}",
        b'{"user":' + b'{"a":' * (SIZE // 5),
        b'{"input":' + b"[" * SIZE,
        b'"' * SIZE,
        b'"a\\""' * (SIZE // 5),
    ],
)
def test_a_body_of_very_many_values_is_refused_before_objects_are_made_of_it(body: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ServiceError) as refused:
            read_request(body, LIMITS)
        assert tracemalloc.get_traced_memory()[1] <= MOST_BYTES
    finally:
        tracemalloc.stop()
    assert (refused.value.status, refused.value.code) == (400, "too_many_inputs")


@pytest.mark.parametrize(
    "body",
    [
        b'{"input":[' + b"1" * SIZE + b"]}",
        b'{"input":"a","' + b"x" * SIZE + b'":1}',
        b'{"input":"a","model":"' + b"x" * SIZE + b'"}',
        b'{"input":"a","pooling":"' + b"x" * SIZE + b'"}',
        b'{"input":"' + b"x" * SIZE + b'"}',
        b'{"input":["\\ud800"]}',
        b'{"input":["\\udc00\\ud800"]}',
        b'{"input":["\xed\xa0\x80"]}',
        b'{"input":"a","model":"\\ud800"}',
        b'{"\\udfff":"a"}',
    ],
)
def test_the_error_for_a_bad_body_is_short(body: bytes) -> None:
    with pytest.raises(ServiceError) as refused:
        read_request(body, LIMITS)
    assert refused.value.status == 400
    assert len(refused.value.response().body) <= 1000


texts = st.lists(st.text(st.sampled_from('a"\\,[{}]: \nü'), max_size=30), min_size=1, max_size=64)


@given(texts)
def test_no_text_is_taken_for_json(inputs: list[str]) -> None:
    body = orjson.dumps({"input": inputs, "user": "x"}, option=orjson.OPT_INDENT_2)
    check_values(body, 8 + 3 * len(inputs))
    assert read_request(body, LIMITS).inputs == inputs


def test_the_largest_right_request_is_far_from_the_limit_of_values() -> None:
    inputs = ['{"a": [1, 2, "\\\\"]},' * 1000] * LIMITS.embed_max_inputs
    assert read_request(orjson.dumps({"input": inputs}), LIMITS).inputs == inputs
