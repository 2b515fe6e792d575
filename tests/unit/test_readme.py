"""What the README says of the code, against the code."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path

from ingestion.errors import IngestError, PermanentError, RetryableError
from ingestion.settings import markdown_table

README = Path(__file__).parents[2] / "README.md"


def test_every_error_has_a_meaning_of_its_own() -> None:
    assert [kind.__name__ for kind in _error_classes() if not kind.__dict__.get("__doc__")] == []


def test_the_readme_lists_every_error_code_with_its_meaning() -> None:
    assert _table("### Error codes") == sorted(_row(kind) for kind in _error_classes())


def test_the_readme_lists_every_setting_as_the_code_has_it() -> None:
    assert markdown_table() in README.read_text("utf-8"), "`python -m ingestion.settings` prints the table anew"


def _error_classes(root: type[IngestError] = IngestError) -> Iterator[type[IngestError]]:
    for kind in root.__subclasses__():
        if kind.__module__ == IngestError.__module__:
            yield kind
            yield from _error_classes(kind)


def _row(kind: type[IngestError]) -> str:
    later = "later" if issubclass(kind, RetryableError) else "never" if issubclass(kind, PermanentError) else ""
    meaning = cleandoc(kind.__doc__ or "").split("\n\n")[0].replace("\n", " ")
    return f"| `{kind.code}` | {later} | {meaning} |"


def _table(heading: str) -> list[str]:
    section = README.read_text("utf-8").partition(f"{heading}\n")[2].partition("\n#")[0]
    return sorted(line for line in section.splitlines() if line.startswith("| `"))
