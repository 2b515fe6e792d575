"""Answers of a child: plain data of the agreed type, or an error."""

from __future__ import annotations

import json
import os
import struct
import time
from dataclasses import dataclass, fields
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.errors import CorruptPdf
from ingestion.sandbox.failures import CROSSING, ChildCrashed, ChildFailed, clean, code_of, error_of
from ingestion.sandbox.frames import MAX_HEADER_BYTES, PREFIX_BYTES, BadFrame, frame, lengths, parse
from ingestion.sandbox.functions import function_path
from ingestion.sandbox.plain import NotPlain, from_plain, to_plain
from ingestion.sandbox.pool import Sandbox
from workers.rendering.render_child import STAGES, RenderedPage, RenderResult

TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class Sample:
    number: int
    ratio: float
    name: str
    content: bytes | None
    kind: Literal["a", "b"]
    sizes: tuple[float, ...]
    pair: tuple[int, str]
    pages: dict[int, str]
    on: bool


samples = st.builds(
    Sample,
    number=st.integers(-(2**63), 2**63 - 1),
    ratio=st.floats(allow_nan=False),
    name=st.text(st.characters(exclude_categories=["Cs"]), max_size=3000),
    content=st.none() | st.binary(max_size=100),
    kind=st.sampled_from(["a", "b"]),
    sizes=st.lists(st.floats(allow_nan=False), max_size=4).map(tuple),
    pair=st.tuples(st.integers(0, 9), st.text("xyz")),
    pages=st.dictionaries(st.integers(1, 99), st.text("xyz"), max_size=4),
    on=st.booleans(),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["$bytes", "$text", "number", "pages", *(f.name for f in fields(RenderResult))]), inner
        )
    ),
    max_leaves=20,
)


def over_the_wire(value: Any, kind: Any) -> Any:
    blobs: list[bytes] = []
    message = {"value": to_plain(value, kind, blobs)}
    parts = frame(message, blobs)
    sizes = lengths(parts[0][:PREFIX_BYTES], max_body_bytes=10**6)
    data = b"".join(parts)[PREFIX_BYTES:]
    message, received = parse(data[: sizes.header], data[sizes.header :])
    return from_plain(message["value"], kind, received)


@given(samples)
def test_plain_data_arrives_unchanged(sample: Sample) -> None:
    assert over_the_wire(sample, Sample) == sample
    assert over_the_wire([sample], list[Sample]) == [sample]


@given(json_values)
def test_untyped_data_arrives_as_json_types(value: Any) -> None:
    try:
        arrived = over_the_wire(value, Any)
    except NotPlain:
        return
    assert arrived == value


@given(json_values, st.lists(st.binary(max_size=5), max_size=3))
def test_any_structure_is_a_drawing_or_refused(data: Any, blobs: list[bytes]) -> None:
    for kind in (RenderResult, Sample, list[tuple[float, float]], dict[int, RenderedPage]):
        try:
            value = from_plain(data, kind, blobs)
        except NotPlain:
            continue
        assert to_plain(value, kind, []) is not None


@given(st.binary(max_size=200), st.binary(max_size=20))
def test_any_bytes_are_a_message_or_refused(header: bytes, body: bytes) -> None:
    with pytest.raises(BadFrame):
        parse(header, body)
    if len(header) >= PREFIX_BYTES and not header.startswith(b"PMS1"):
        with pytest.raises(BadFrame):
            lengths(header[:PREFIX_BYTES], max_body_bytes=100)


VALID = {
    "pages": [],
    "refused": [[1, "damaged"]],
    "cpu_s": [[stage, 0.5] for stage in STAGES],
}


@pytest.mark.parametrize(
    ("change", "blobs"),
    [
        pytest.param({"extra": 1}, [], id="a field too many"),
        pytest.param({"pages": None}, [], id="null"),
        pytest.param({"pages": {}}, [], id="an object for pairs"),
        pytest.param({"refused": [[1, "a"], [1, "b"]]}, [], id="a key twice"),
        pytest.param({"refused": [[1.0, "a"]]}, [], id="a float as a page number"),
        pytest.param({"refused": [[True, "a"]]}, [], id="true as a page number"),
        pytest.param({"refused": [["1", "a"]]}, [], id="text as a page number"),
        pytest.param({"refused": [[2**63, "a"]]}, [], id="more than 64 bits"),
        pytest.param({"refused": [[1, "\ud800"]]}, [], id="a lone surrogate"),
        pytest.param({"refused": [[1, {"$text": 0}]]}, [], id="text that is not there"),
        pytest.param({"refused": [[1, {"$text": -1}]]}, [b"x"], id="a negative index"),
        pytest.param({"refused": [[1, {"$text": 0}]]}, [b"\xff"], id="text that is not UTF-8"),
        pytest.param({"refused": [[1, {"$bytes": 0}]]}, [b"x"], id="bytes in place of text"),
        pytest.param({"refused": [[1, {"$text": 0}], [2, {"$text": 0}]]}, [b"x"], id="bytes of two values"),
        pytest.param({}, [b"x"], id="bytes of no value"),
        pytest.param({"cpu_s": [["render", float("nan")]]}, [], id="not a number"),
        pytest.param({"cpu_s": [["render", 10**400]]}, [], id="beyond all floats"),
    ],
)
def test_an_answer_of_another_type_is_refused(change: dict[str, Any], blobs: list[bytes]) -> None:
    assert from_plain(VALID, RenderResult, []).refused == {1: "damaged"}
    with pytest.raises(NotPlain):
        from_plain(VALID | change, RenderResult, blobs)


def test_depth_has_a_limit() -> None:
    deep: Any = "x"
    for _ in range(100):
        deep = [deep]
    with pytest.raises(NotPlain):
        to_plain(deep, Any, [])
    with pytest.raises(NotPlain):
        from_plain(deep, Any, [])
    with pytest.raises(BadFrame):
        parse(b'{"message": {"x": ' + b"[" * 100_000 + b"]" * 100_000 + b'}, "blobs": []}', b"")


# What a child sends over its socket, which is descriptor 3


def prefix(header: int, body: int = 0, magic: bytes = b"PMS1") -> bytes:
    return struct.pack(">4sIQ", magic, header, body)


def message(content: bytes, body: bytes = b"") -> bytes:
    return prefix(len(content), len(body)) + content + body


def answer(**members: Any) -> bytes:
    return message(json.dumps({"message": {"call": 1, **members}, "blobs": []}).encode())


def sends(raw: bytes) -> int:
    os.write(3, raw)
    time.sleep(60)
    return 1


def sends_and_ends(raw: bytes) -> int:
    os.write(3, raw)
    os._exit(0)


in_one_loop = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def box() -> Sandbox:
    """One launcher for the tests of one event loop. A child that has misbehaved is never kept."""
    return Sandbox(processes=1, memory_bytes=1024**3)


@in_one_loop
@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(
            b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x04true\x94\x85\x94R\x94.", id="pickle"
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", id="another protocol"),
        pytest.param(prefix(MAX_HEADER_BYTES + 1), id="a header that is too long"),
        pytest.param(prefix(2, 2**63), id="a body of 2^63 bytes"),
        pytest.param(prefix(2, 2**20 + 1), id="a body of a byte too many"),
        pytest.param(message(b"{}"), id="an empty object"),
        pytest.param(message(b"[]"), id="a list"),
        pytest.param(message(b"\xff\xfe"), id="no JSON"),
        pytest.param(message(b"[" * 100_000), id="deep"),
        pytest.param(message(b"9" * 100_000), id="a long number"),
        pytest.param(message(b'{"message": {}, "blobs": [1]}'), id="lengths that do not add up"),
        pytest.param(message(b'{"message": {}, "blobs": [-1, 1]}'), id="a negative length"),
        pytest.param(answer(kind="ready"), id="no answer"),
        pytest.param(answer(kind="answer"), id="an answer without a value"),
        pytest.param(answer(kind="answer", value="1"), id="a value of another type"),
        pytest.param(answer(kind="answer", value=1, more=1), id="a member too many"),
        pytest.param(answer(kind="error", code=["x"], message={}), id="an error of no known kind"),
        pytest.param(answer(kind="error", code="WorkerFault", message="x"), id="the name of a class"),
        pytest.param(answer(kind="program", name="pdftoppm", arguments=1), id="a program without arguments"),
        pytest.param(answer(kind="answer", value=1, call=2), id="the answer to another call"),
        pytest.param(answer(kind="ended", call=1), id="the end of no program"),
    ],
)
async def test_a_child_that_does_not_keep_to_the_protocol_is_ended(box: Sandbox, raw: bytes) -> None:
    with pytest.raises(ChildCrashed):
        await box.run(sends, raw, timeout_s=TIMEOUT_S)
    assert await box.run(abs, -1, timeout_s=TIMEOUT_S, keep=False) == 1, "the next test has a new child"


@in_one_loop
@pytest.mark.parametrize("raw", [b"", b"PMS", prefix(100), prefix(2) + b"{"])
async def test_a_child_that_ends_in_the_middle_of_its_answer_has_crashed(box: Sandbox, raw: bytes) -> None:
    with pytest.raises(ChildCrashed, match="died"):
        await box.run(sends_and_ends, raw, timeout_s=TIMEOUT_S)


@in_one_loop
async def test_an_answer_that_was_not_asked_for_is_never_taken_for_another_one(box: Sandbox) -> None:
    assert await box.run(answers_twice, timeout_s=TIMEOUT_S) == 7
    try:
        assert await box.run(abs, -1, timeout_s=TIMEOUT_S) == 1
    except ChildCrashed as error:  # where the second answer came late enough to be taken for that of this call
        assert "another call" in str(error)
    assert await box.run(abs, -1, timeout_s=TIMEOUT_S, keep=False) == 1


def answers_twice() -> int:
    os.write(3, answer(kind="answer", value=7))
    return 8


# Errors


def test_errors_cross_by_their_code() -> None:
    for code, kind in CROSSING.items():
        assert code_of(kind("x")) == code
        raised = error_of(code, "x", "function")
        assert type(raised) is kind
    for code in ("__init__", "WorkerFault", "internal", "SystemExit", ""):
        assert type(error_of(code, "x", "function")) is ChildFailed


def raises() -> None:
    raise CorruptPdf("line\nbreak \x1b[31m red \u202e\ud800" + "x" * 1000)


@in_one_loop
async def test_messages_of_errors_are_one_short_line(box: Sandbox) -> None:
    with pytest.raises(CorruptPdf) as raised:
        await box.run(raises, timeout_s=TIMEOUT_S, keep=False)
    assert raised.value.message == clean(raised.value.message)
    assert raised.value.message.startswith("line break ?[31m red ")
    assert len(raised.value.message) == 500


def test_a_function_that_a_child_cannot_find_is_refused() -> None:
    for function in (lambda: 1, Sandbox.run, "x".upper):
        with pytest.raises(NotPlain):
            function_path(function)
