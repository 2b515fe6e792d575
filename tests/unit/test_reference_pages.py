"""The generated tables of docs/ against the code."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.reference_pages import PAGES, error_classes, updated


def test_every_error_has_its_own_docstring() -> None:
    assert [kind.__name__ for kind in error_classes() if not kind.__dict__.get("__doc__")] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_tables_of_a_page_are_those_of_the_code(page: Path) -> None:
    assert page.read_text("utf-8") == updated(page), "`make docs` writes the tables anew"
