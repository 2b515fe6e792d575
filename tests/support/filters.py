"""Filters and documents for property tests."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from hypothesis import strategies as st

from ingestion.filters.expression import (
    FIELDS,
    Among,
    And,
    Compared,
    Exists,
    FieldType,
    Filter,
    Has,
    Like,
    Name,
    Not,
    Or,
    Order,
)
from ingestion.model import Document, DocumentState
from tests.support.documents import document

KEYS: Final = ("team", "year", "state", "and", "dc.title", "metadata.x")
"""Also the name of a field, a keyword, and keys that need the prefix."""
_START: Final = datetime(2026, 1, 1, tzinfo=UTC)
_TEXTS: Final = st.sampled_from(
    [
        "",
        "a",
        "A",
        "ab",
        "a.b",
        "a\nb",
        "b\n",
        "«ü» 漢",
        "ü",
        "Ü",
        "ß",
        "\uff5e",
        "😀",
        "x*y",
        "(",
        "\\",
        '"',
        "$a",
        "2020",
    ]
)
_NUMBERS: Final = st.sampled_from(
    [0, 1, -1, 1.0, 1.5, 2020, 2**53, 2.0**53, 2**53 + 1, 2**63 - 1, 2.0**63, -(2**63), 1e300, -0.0]
)
"""Also integers that no float is equal to, beside the nearest float."""
_SCALARS: Final = st.one_of(_TEXTS, _NUMBERS, st.booleans(), st.none())
_TAGS: Final = st.sampled_from(["draft", "a", "ü"])
_MOMENTS: Final = st.integers(0, 5).map(lambda ms: _START + timedelta(milliseconds=ms))
_GLOBS: Final = st.one_of(
    st.sampled_from(["*", "?", "a*", "*b", "a.b", "a?b", "??", "*\n*", "[ab]", "*.pdf", ""]), _TEXTS
)
_OF_TYPE: Final = {FieldType.TEXT: _TEXTS, FieldType.NUMBER: _NUMBERS, FieldType.MOMENT: _MOMENTS}

_metadata_names: Final = st.sampled_from(KEYS).map(lambda key: Name(key, is_metadata=True))
_field_names: Final = st.sampled_from(sorted(FIELDS)).map(Name)
_compared_names: Final = _metadata_names | _field_names.filter(lambda name: name.type is not FieldType.TAGS)


@st.composite
def _conditions(draw: st.DrawFn) -> Filter:
    name = draw(_compared_names)
    values = _SCALARS if name.type is None else _OF_TYPE[name.type]
    match draw(st.integers(0, 4)):
        case 0:
            return Has(draw(_TAGS))
        case 1:
            return Exists(draw(_metadata_names | _field_names))
        case 2 if name.type in (None, FieldType.TEXT):
            return Like(name, draw(_GLOBS))
        case 3:
            ordered = values.filter(lambda value: value is not None and not isinstance(value, bool))
            return Compared(name, draw(st.sampled_from(Order)), draw(ordered))
    # A time is compared for equality as it is; a text of the filter makes no list of times.
    most = 1 if name.type is FieldType.MOMENT else 3
    return Among(name, tuple(draw(st.lists(values, min_size=1, max_size=most))))


filters: Final = st.recursive(
    _conditions(),
    lambda parts: st.one_of(
        parts.map(Not),
        st.lists(parts, min_size=2, max_size=3).map(lambda some: And(tuple(some))),
        st.lists(parts, min_size=2, max_size=3).map(lambda some: Or(tuple(some))),
    ),
    max_leaves=6,
)


@st.composite
def labelled_documents(draw: st.DrawFn) -> list[Document]:
    """Documents of the collection `c` with all sorts of metadata."""
    return [
        replace(
            document(f"d{number}"),
            filename=draw(_TEXTS),
            pages=draw(st.integers(0, 3)),
            first_page_key=1 + 10 * number,
            key=draw(st.sampled_from(["", "", "a", "b"])),
            revision=number,
            state=draw(st.sampled_from([DocumentState.RECEIVED, DocumentState.READY])),
            metadata=draw(st.dictionaries(st.sampled_from(KEYS), _SCALARS, max_size=4)),
            tags=tuple(draw(st.lists(_TAGS, unique=True, max_size=2))),
            media_type=draw(st.sampled_from(["application/pdf", "image/png"])),
            created_at=draw(_MOMENTS),
        )
        for number in range(draw(st.integers(1, 6)))
    ]
