"""A text layer that a search cannot use does not keep a page from being read."""

from __future__ import annotations

import pytest

from workers.ocr.usefulness import is_useful


@pytest.mark.parametrize(
    "text", ["", " \n", "12", "Page 12", "\ue001\ue002\ue003" * 9 + "eleven words", "\ufffd" * 40]
)
def test_a_few_letters_and_glyphs_without_unicode_are_useless(text: str) -> None:
    assert not is_useful(text)


@pytest.mark.parametrize(
    "text", ["Chapter 12", "Übersicht", "第一章 港口的年度报告", "الفصل الأول", "a\ue001 word of a text"]
)
def test_short_texts_of_any_script_are_kept(text: str) -> None:
    assert is_useful(text)
