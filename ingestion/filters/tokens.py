"""The words, values and signs of a filter's text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ingestion.errors import BadFilter
from ingestion.model import Scalar

KEYWORDS: Final = frozenset({"and", "or", "not", "in", "has", "like", "exists", "between", "true", "false", "null"})
"""In any case. A metadata entry with such a key is written with its prefix."""
_CONSTANTS: Final[dict[str, Scalar]] = {"true": True, "false": False, "null": None}
_TOKEN: Final = re.compile(
    r"""\s+
    | (?P<text>"(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*')
    | (?P<number>-?[0-9][0-9.eE+-]*)
    | (?P<name>[A-Za-z_][A-Za-z0-9_.-]*)
    | (?P<sign><=|>=|!=|==|[=<>(),])""",
    re.VERBOSE | re.DOTALL,
)


class Kind(StrEnum):
    NAME = "name"
    KEYWORD = "keyword"
    VALUE = "value"
    SIGN = "sign"
    END = "end"


@dataclass(frozen=True, slots=True)
class Token:
    kind: Kind
    shown: str
    """As the text has it; a keyword in lower case."""
    at: int
    """Its first character in the text, from 0."""
    value: Scalar = None


def tokens_of(text: str) -> Iterator[Token]:
    """Yield the tokens of `text`, and an END. Raises BadFilter."""
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise wrong(at, _help_with(text[at:]))
        if found.lastgroup is not None:
            yield _token(found.lastgroup, found.group(), at)
        at = found.end()
    yield Token(Kind.END, "the end", len(text))


def wrong(at: int, what: str) -> BadFilter:
    return BadFilter(f"filter, character {at + 1}: {what}")


def _token(group: str, shown: str, at: int) -> Token:
    match group:
        case "text":
            return Token(Kind.VALUE, shown, at, _text(shown, at))
        case "number":
            return Token(Kind.VALUE, shown, at, _number(shown, at))
        case "name":
            return _word(shown, at)
        case _:
            return Token(Kind.SIGN, "=" if shown == "==" else shown, at)


def _word(shown: str, at: int) -> Token:
    word = shown.lower()
    if word in _CONSTANTS:
        return Token(Kind.VALUE, word, at, _CONSTANTS[word])
    return Token(Kind.KEYWORD, word, at) if word in KEYWORDS else Token(Kind.NAME, shown, at)


def _text(shown: str, at: int) -> str:
    inner = shown[1:-1]
    if shown[0] == "'":  # as JSON writes it
        inner = re.sub(r"\\(.)|(\")", lambda one: _as_json(one[0]), inner, flags=re.DOTALL)
    try:
        text = str(json.loads(f'"{inner}"', strict=False))
        text.encode()
        if "\0" in text:
            raise ValueError
    except ValueError:
        raise wrong(at, f"{shown[:80]} is not a text; write a backslash as \\\\, and other escapes as JSON") from None
    return text


def _as_json(escaped: str) -> str:
    return {'"': r"\"", r"\'": "'"}.get(escaped, escaped)


def _number(shown: str, at: int) -> int | float:
    try:
        number: int | float = json.loads(shown)
    except ValueError:
        raise wrong(at, f"{shown[:80]} is not a number; put texts and dates in double quotes") from None
    if (isinstance(number, int) and not -(2**63) <= number < 2**63) or number in (float("inf"), float("-inf")):
        raise wrong(at, f"{shown[:80]} is too large for a number")
    return number


def _help_with(rest: str) -> str:
    if rest[0] in "\"'":
        return f"the text has no closing {rest[0]}"
    if rest[0] in "&|!":
        return f"{rest[0]!r} has no meaning; write 'and', 'or', 'not'"
    return f"{rest[0]!r} has no meaning; put texts in double quotes"
