"""Read a filter.

    filter     = all { "or" all }
    all        = part { "and" part }
    part       = "not" part | "(" filter ")" | condition
    condition  = name ( "=" | "!=" | "<" | "<=" | ">" | ">=" ) value
               | name [ "not" ] "in" "(" value { "," value } ")"
               | name "between" value "and" value
               | name [ "not" ] "like" text
               | name "exists"
               | "tags" "has" text
    name       = a field of `expression.FIELDS`, or the key of a metadata entry, with or without "metadata."
    value      = "text" | 'text' | number | true | false | null

`!=` is `not … =`, and `between` is `>= … and <= …`. A date stands for its whole day, in UTC.
"""

from __future__ import annotations

from ingestion.errors import BadFilter
from ingestion.filters.expression import (
    FIELDS,
    MAX_CHARS,
    MAX_DEPTH,
    MAX_VALUES,
    METADATA_PREFIX,
    And,
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
from ingestion.filters.tokens import Kind, Token, tokens_of, wrong
from ingestion.filters.values import equal_to, in_order
from ingestion.model import METADATA_KEY

_SIGNS = "one of = != < <= > >= in between like exists has"


def parse_filter(text: str) -> Filter:
    """Return the filter. Raises BadFilter, which names the place."""
    if len(text) > MAX_CHARS:
        raise BadFilter(f"the filter has {len(text)} characters; at most {MAX_CHARS} are accepted")
    parser = _Parser(text)
    found = parser.any_of(0)
    parser.require_end()
    return found


class _Parser:
    """One method for each rule of the grammar."""

    def __init__(self, text: str) -> None:
        self._tokens = list(tokens_of(text))
        self._next = 0

    def any_of(self, depth: int) -> Filter:
        parts = [self._all_of(depth)]
        while self._skip("or"):
            parts.append(self._all_of(depth))
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def require_end(self) -> None:
        if self._seen.kind is not Kind.END:
            raise self._unexpected("'and', 'or' or the end")

    def _all_of(self, depth: int) -> Filter:
        parts = [self._part(depth)]
        while self._skip("and"):
            parts.append(self._part(depth))
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _part(self, depth: int) -> Filter:
        if depth > MAX_DEPTH:
            raise wrong(self._seen.at, f"more than {MAX_DEPTH} parentheses or 'not' inside each other")
        if self._skip("not"):
            return Not(self._part(depth + 1))
        if self._skip("("):
            inner = self.any_of(depth + 1)
            self._require(")")
            return inner
        return self._condition()

    def _condition(self) -> Filter:
        token = self._take()
        if token.kind is not Kind.NAME:
            raise self._unexpected("the name of a field or of a metadata key", token)
        name = _name_of(token)
        is_not = self._skip("not")
        sign = self._take()
        condition = self._compared(name, sign) if not is_not or sign.shown in ("in", "like") else None
        if condition is None:
            raise self._unexpected("'in' or 'like'" if is_not else _SIGNS, sign)
        return Not(condition) if is_not else condition

    def _compared(self, name: Name, sign: Token) -> Filter | None:
        match sign.shown:
            case "exists":
                return Exists(name)
            case "has":
                if name.type is not FieldType.TAGS:
                    raise wrong(sign.at, f"only tags have 'has'; compare {name.name} by = or in")
                return Has(self._text("a tag"))
        if name.type is FieldType.TAGS:
            raise wrong(sign.at, "tags are compared by 'has' or 'exists' alone, as in: tags has \"draft\"")
        match sign.shown:
            case "=":
                return equal_to(name, [self._value()])
            case "!=":
                return Not(equal_to(name, [self._value()]))
            case "<" | "<=" | ">" | ">=":
                return in_order(name, Order(sign.shown), self._value())
            case "in":
                return equal_to(name, self._values())
            case "between":
                return self._between(name)
            case "like":
                if name.type not in (None, FieldType.TEXT):
                    raise wrong(sign.at, f"{name.name} is no text; 'like' compares texts alone")
                return Like(name, self._text("a glob"))
        return None

    def _between(self, name: Name) -> Filter:
        low = self._value()
        self._require("and")
        return And((in_order(name, Order.AT_LEAST, low), in_order(name, Order.AT_MOST, self._value())))

    def _values(self) -> list[Token]:
        self._require("(")
        values = [self._value()]
        while self._skip(","):
            values.append(self._value())
            if len(values) > MAX_VALUES:
                raise wrong(self._seen.at, f"more than {MAX_VALUES} values after 'in'")
        self._require(")")
        return values

    def _value(self) -> Token:
        token = self._take()
        if token.kind is not Kind.VALUE:
            raise self._unexpected('a value: "text" in quotes, a number, true, false or null', token)
        return token

    def _text(self, what: str) -> str:
        token = self._value()
        if not isinstance(token.value, str):
            raise self._unexpected(f"{what} in quotes", token)
        return token.value

    @property
    def _seen(self) -> Token:
        return self._tokens[self._next]

    def _take(self) -> Token:
        token = self._seen
        self._next = min(self._next + 1, len(self._tokens) - 1)
        return token

    def _skip(self, shown: str) -> bool:
        token = self._seen
        is_it = token.kind in (Kind.KEYWORD, Kind.SIGN) and token.shown == shown
        if is_it:
            self._take()
        return is_it

    def _require(self, shown: str) -> None:
        if not self._skip(shown):
            raise self._unexpected(f"'{shown}'")

    def _unexpected(self, wanted: str, token: Token | None = None) -> BadFilter:
        token = token or self._seen
        return wrong(token.at, f"expected {wanted}; found {token.shown[:80]}")


def _name_of(token: Token) -> Name:
    if token.shown in FIELDS:
        return Name(token.shown)
    key = token.shown.removeprefix(METADATA_PREFIX)
    if not METADATA_KEY.fullmatch(key):
        fields = ", ".join(FIELDS)
        raise wrong(token.at, f"{token.shown[:80]} is neither a metadata key nor one of the fields {fields}")
    return Name(key, is_metadata=True)
