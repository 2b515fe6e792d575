"""How texts of any script are split into terms."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.terms.tokens import located_terms, query_terms, terms
from tests.support.scripts import IDENTIFIERS, LANGUAGES, Language

_WORDS = st.text(st.sampled_from("abXY1_.:-é数ท "), max_size=40)


@pytest.mark.parametrize("language", LANGUAGES, ids=lambda one: one.name)
def test_a_query_finds_the_text_of_its_language(language: Language) -> None:
    assert query_terms(language.query).keys() <= set(terms(language.text))


@pytest.mark.parametrize("language", LANGUAGES, ids=lambda one: one.name)
def test_texts_of_other_languages_lack_a_term_of_the_query(language: Language) -> None:
    for other in LANGUAGES:
        if other is not language:
            assert not query_terms(language.query).keys() <= set(terms(other.text)), other.name


@pytest.mark.parametrize("identifier, parts", IDENTIFIERS)
def test_an_identifier_is_found_as_a_whole_and_by_its_parts(identifier: str, parts: set[str]) -> None:
    found = set(terms(f"before {identifier}, after"))
    assert identifier.casefold() in found
    assert parts <= found
    assert query_terms(identifier).keys() == found - {"before", "after"}


@pytest.mark.parametrize(
    "one, other",
    [
        ("Straße", "STRASSE"),
        ("café", "CAFE\u0301"),
        ("ﬁle", "file"),
        ("Ｆｕｌｌ", "full"),
        ("ｶﾞｽ管", "ガス管"),
        ("مُحَمَّد", "محمد"),
        ("٤٥", "45"),
        ("๑๒๓", "123"),
        ("naïve", "naive"),
        ("Ёлка", "елка"),
        ("데이터", unicodedata.normalize("NFD", "데이터")),
    ],
)
def test_forms_of_the_same_word_are_the_same_terms(one: str, other: str) -> None:
    assert set(terms(one)) == set(terms(other))


def test_marks_that_are_vowels_stay() -> None:
    assert list(terms("हिन्दी")) == ["हिन्दी"]
    assert list(terms("தமிழ்")) == ["தமிழ்"]


def test_a_lone_chinese_character_is_found_in_words_and_a_word_only_by_its_pairs() -> None:
    assert query_terms("水").keys() <= set(terms("水道の水"))
    assert query_terms("水道") == {"水道": 1.0}


def test_a_part_of_an_identifier_has_half_its_weight_and_as_a_word_of_its_own_all() -> None:
    assert query_terms("read.table") == {"read.table": 1.0, "read": 0.5, "table": 0.5}
    assert query_terms("read.table read") == {"read.table": 1.0, "read": 1.0, "table": 0.5}
    assert query_terms("read read.table")["read"] == 1.0


def test_a_word_that_a_line_divides_is_found_whole() -> None:
    assert "identifier" in set(terms("an identi-\nfier"))
    assert {"well", "known", "wellknown"} <= set(terms("well-\nknown"))
    assert "divided" in set(terms("divi\u00added")) & set(terms("divi\ufffe\nded"))


def test_a_long_run_of_letters_is_one_short_term() -> None:
    [term] = terms("x" * 5_000)
    assert len(term) == 64


@given(st.text(max_size=200))
def test_any_text_has_terms_that_are_not_empty(text: str) -> None:
    assert all(terms(text))


@given(st.text(max_size=200))
def test_what_is_looked_for_is_in_the_text_that_it_is_copied_from(text: str) -> None:
    assert query_terms(text).keys() <= set(terms(text))


@given(_WORDS, _WORDS)
def test_a_part_of_a_text_between_spaces_is_found_in_it(before: str, part: str) -> None:
    assert query_terms(part).keys() <= set(terms(f"{before} {part} {before}"))


@given(_WORDS)
def test_case_makes_no_difference_to_the_whole_of_a_chunk(text: str) -> None:
    chunks = {chunk.casefold() for chunk in text.split() if set(terms(chunk)) & {chunk.casefold()}}
    assert chunks <= set(terms(text.upper())) | set(terms(text.lower()))


@given(st.text(max_size=100))
def test_located_terms_are_those_of_the_text_at_their_places(text: str) -> None:
    for located in located_terms(text):
        assert 0 <= located.start < located.end <= len(text)
        assert located.term in set(terms(text[located.start : located.end]))


@given(_WORDS)
def test_every_term_of_plain_text_has_a_place(text: str) -> None:
    assert {located.term for located in located_terms(text)} == set(terms(text))
