"""Filters: their grammar, their errors, and which documents they select."""

from __future__ import annotations

import re
import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.errors import BadFilter
from ingestion.filters import filter_text, matches, parse_filter
from ingestion.filters.columns import DocumentColumns
from ingestion.filters.expression import MAX_CHARS, MAX_DEPTH, MAX_VALUES, Filter, Like, Name
from ingestion.filters.matching import glob_pattern, value_matches
from ingestion.model import Document
from tests.support.documents import S, document
from tests.support.filters import filters, labelled_documents

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
CONTRACT = replace(
    document(),
    filename="Contract (final).pptx",
    state=S.READY,
    metadata={"team": "legal", "year": 2021, "signed": True, "note": None, "state": "draft", "dc.title": "x"},
    tags=("draft", "2 b"),
    key="contracts/7",
    created_at=NOON,
)


@given(filters)
def test_a_filter_that_is_written_and_read_is_the_same(wanted: Filter) -> None:
    assert parse_filter(filter_text(wanted)) == wanted


@given(st.text())
def test_any_text_is_a_filter_or_an_error_that_names_the_place(text: str) -> None:
    try:
        parse_filter(text)
    except BadFilter as error:
        assert error.message.startswith("filter, character ")


@pytest.mark.parametrize(
    "text",
    [
        'team = "legal" and year >= 2020 and tags has "draft" and not (filename like "*.pdf")',
        "TEAM exists OR team == 'legal'",
        "year in (2020, 2021.0) and signed = true and note = null",
        "year between 2021 and 2021",
        "year not in (1, 2) and team != 'x' and absent != 5",
        "not absent exists and note exists",
        'filename like "Contract (f?nal)*" and filename not like "contract*"',
        'key = "contracts/7" and key like "contracts/*" and document_id = "d1"',
        'state = "ready" and metadata.state = "draft" and metadata.year = 2021 and dc.title = "x"',
        "uploaded between '2026-03-01' and '2026-03-01'",
        "uploaded = '2026-03-01' and uploaded <= '2026-03-01' and not uploaded > '2026-03-01'",
        "uploaded = '2026-03-01T13:00:00+01:00' and uploaded < '2026-03-01T12:00:00.001Z'",
        "pages > 59 and media_type = 'application/pdf' and tags exists and tags has \"2 b\"",
    ],
)
def test_a_filter_that_holds(text: str) -> None:
    assert matches(parse_filter(text), CONTRACT)


@pytest.mark.parametrize(
    "text",
    [
        "year = '2021'",
        "signed = 1",
        "year < 'z'",
        "team > 5",
        "absent < 5",
        "absent = null",
        "absent like '*'",
        "team like 'leg'",
        "tags has 'Draft'",
        "uploaded < '2026-03-01'",
        "uploaded > '2026-03-01'",
    ],
)
def test_a_filter_that_does_not_hold(text: str) -> None:
    assert not matches(parse_filter(text), CONTRACT)


@given(documents=labelled_documents(), wanted=filters)
def test_columns_select_the_documents_for_which_a_filter_holds(documents: list[Document], wanted: Filter) -> None:
    columns = DocumentColumns()
    columns.extend(documents[:2])
    columns.extend(documents[2:])
    assert columns.selected(wanted) == {one.first_page_key for one in documents if matches(wanted, one)}


def test_columns_count_a_value_that_many_documents_have_once() -> None:
    documents = [replace(CONTRACT, id=f"{number:032x}", first_page_key=number) for number in range(2_000)]
    tracemalloc.start()
    try:
        columns = DocumentColumns()
        columns.extend(documents)
        taken_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.5 < columns.size_bytes / taken_bytes < 2


@given(
    st.lists(st.sampled_from(["a", "b", "*", "?", ".", "\n"]), max_size=8).map("".join), st.text("ab.\n", max_size=8)
)
def test_a_glob_matches_as_its_plain_expression(glob: str, text: str) -> None:
    plain = re.compile(glob_pattern(glob), re.DOTALL)
    assert value_matches(Like(Name("a", is_metadata=True), glob), text) is (plain.match(text) is not None)


def test_a_glob_of_many_stars_ends_on_a_long_text() -> None:
    assert not matches(parse_filter(f"a like '{'*a' * 40}*b'"), replace(CONTRACT, metadata={"a": "a" * 10_000}))


@pytest.mark.parametrize(
    ("text", "at", "advice"),
    [
        ("team = legal", 8, "in quotes"),
        ("year > null", 8, "compare it by ="),
        ("tags = 'x'", 6, "'has'"),
        ("team has 'x'", 6, "only tags"),
        ("uploaded > 5", 12, '"2026-01-31"'),
        ("uploaded > 2026-01-31", 12, "dates in double quotes"),
        ("uploaded = '9999-12-31'", 12, "not a time"),
        ("pages = '5'", 9, "as a number"),
        ("filename = 5", 12, "double quotes"),
        ("pages like 'x'", 7, "texts alone"),
        ("(a = 1", 7, "expected ')'"),
        ("a = 1 b = 2", 7, "'and', 'or'"),
        ("a = 1 && b = 2", 7, "'and'"),
        ("", 1, "the name of a field"),
        ("a = 'x", 5, "closing '"),
        ("a = '\\q'", 5, "backslash"),
        ("a = 'x\0'", 5, "not a text"),
        ("a = 1e999", 5, "too large"),
        (f"a = {2**63}", 5, "too large"),
        ("a not = 1", 7, "'in' or 'like'"),
        ("metadata.a$ = 1", 11, "no meaning"),
        (f"{'a' * 65} = 1", 1, "nor one of the fields document_id"),
        (f"{'(' * (MAX_DEPTH + 1)}a = 1", MAX_DEPTH + 2, "inside each other"),
        (f"a in ({','.join('1' * (MAX_VALUES + 1))})", 8 + 2 * MAX_VALUES, f"more than {MAX_VALUES}"),
    ],
)
def test_an_error_names_the_place_and_says_what_to_do(text: str, at: int, advice: str) -> None:
    with pytest.raises(BadFilter) as caught:
        parse_filter(text)
    assert caught.value.message.startswith(f"filter, character {at}:")
    assert advice in caught.value.message


def test_a_long_filter_is_refused() -> None:
    with pytest.raises(BadFilter, match=f"at most {MAX_CHARS}"):
        parse_filter(f"a = '{'x' * MAX_CHARS}'")
