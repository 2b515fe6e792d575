"""Words of a page with their boxes: how they are stored, and which ones match a query."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.words.boxes import MOST_WORDS, SCALE, Word, decode_words, encode_words, words_in
from ingestion.words.matching import matches_of

_SIDE = st.integers(0, SCALE)
_WORDS = st.lists(
    st.builds(
        lambda text, x, y: Word(text, (min(x), min(y), max(x), max(y))),
        st.text(st.characters(categories=("L", "N")), min_size=1, max_size=8),
        st.tuples(_SIDE, _SIDE),
        st.tuples(_SIDE, _SIDE),
    ),
    max_size=20,
)


@given(_WORDS)
def test_words_are_read_as_they_were_stored(words: list[Word]) -> None:
    assert decode_words(encode_words(words)) == words


def test_a_side_outside_of_the_page_is_moved_to_its_edge() -> None:
    assert decode_words(encode_words([Word("a", (-5, 0, SCALE + 9, 7))])) == [Word("a", (0, 0, SCALE, 7))]


def test_a_page_of_very_many_words_is_cut() -> None:
    assert len(decode_words(encode_words([Word("a", (1, 2, 3, 4))] * (MOST_WORDS + 1)))) == MOST_WORDS
    assert encode_words([Word("a" * 1_000_000, (1, 2, 3, 4))]) == b""


@pytest.mark.parametrize(
    "stored",
    [
        b"no zlib",
        zlib.compress(b""),
        zlib.compress(b"\x02" + bytes(4)),
        zlib.compress(b"\x01\xff\xff\xff\x7f"),
        zlib.compress(b"\x01\x02\0\0\0" + bytes(16) + b"one"),
        zlib.compress(b"\x01\x01\0\0\0" + bytes(8) + b"\xff"),
        zlib.compress(bytes(10_000_000)),
    ],
)
def test_hostile_bytes_are_refused(stored: bytes) -> None:
    with pytest.raises(ValueError):
        decode_words(stored)


def on_lines(*lines: str) -> list[Word]:
    """Each line takes a tenth of the page's height."""
    return [word for at, line in enumerate(lines) for word in words_in(line, (0.0, at / 10, 1.0, (at + 0.8) / 10))]


def texts(query: str, *lines: str) -> list[str]:
    return [match.text for match in matches_of(query, on_lines(*lines))]


@pytest.mark.parametrize(
    ("query", "line", "found"),
    [
        ("TORQUE", "the torque of it", ["torque"]),
        ("naïve café", "a Naive CAFE\u0301 here", ["Naive", "CAFE"]),
        ("Straße", "STRASSE 5", ["STRASSE"]),
        ("office", "the of\ufb01ce", ["of\ufb01ce"]),
        ("what is torque?", "is torque", ["torque"]),
        ("is it", "is torque", ["is"]),
        ("ERR-1042", "see ERR-1042 and ERR 7", ["ERR 1042"]),
        ("input/output", "output of the input", ["output", "input"]),
        ("検索", "全文検索と索引", ["検索"]),
        ("検索索引", "全文検索と索引", ["検索", "索引"]),
        ("ไทย", "ภาษาไทยง่าย", ["ไทย"]),
        ("момент", "МОМЕНТ затяжки", ["МОМЕНТ"]),
        ("العربية", "اللغة العربية", ["العربية"]),
        ("x", "none of it", []),
        ("", "none of it", []),
        ("…", "none … of it", []),
    ],
)
def test_words_match_without_case_accents_and_ligatures(query: str, line: str, found: list[str]) -> None:
    assert texts(query, line) == found


def test_a_common_word_is_marked_only_if_no_other_matches() -> None:
    line = " ".join(["the", "valve", *["turns"] * 18] * 1)
    lines = [f"the {line}"] * 8
    assert set(texts("the valve", *lines[:-1], "the pump")) == {"the", "valve"}  # both are common on this page
    rare = [line.replace("valve", "bolt")] * 9 + ["the valve"]
    assert texts("the valve", *rare) == ["valve"]
    assert set(texts("the", *rare)) == {"the"}


def test_a_match_over_two_lines_has_two_boxes() -> None:
    first, second = matches_of("well-known", on_lines("it is well", "known here"))
    assert (first.text, second.text, first.term) == ("well", "known", "wellknown")
    assert first.box[3] <= second.box[1]


def test_neighbouring_words_of_a_term_have_one_box() -> None:
    words = on_lines("see ERR-1042 now")
    [match] = matches_of("ERR-1042", words)
    assert match.box == (words[1].box[0], words[1].box[1], words[2].box[2], words[2].box[3])
