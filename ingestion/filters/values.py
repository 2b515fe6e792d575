"""Comparisons of a field with values, checked by the field's type."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final

from ingestion.filters.expression import Among, And, Compared, FieldType, Filter, Name, Or, Order, Value
from ingestion.filters.tokens import Token, wrong

_DAY: Final = timedelta(days=1)
_MICROSECONDS_PER_MS: Final = 1000


def equal_to(name: Name, tokens: Sequence[Token]) -> Filter:
    """The field is one of the values. Raises BadFilter for a value that the field cannot have."""
    if name.type is FieldType.MOMENT:
        days = [_moment_is(name, token) for token in tokens]
        return days[0] if len(days) == 1 else Or(tuple(days))
    return Among(name, tuple(_checked(name, token) for token in tokens))


def in_order(name: Name, order: Order, token: Token) -> Filter:
    """Raises BadFilter for a value without an order, or that the field cannot have."""
    if name.type is FieldType.MOMENT:
        moment, is_day = _moment(token)
        if is_day and order is Order.AT_MOST:
            return Compared(name, Order.LESS, _next_day(moment, token))
        if is_day and order is Order.GREATER:
            return Compared(name, Order.AT_LEAST, _next_day(moment, token))
        return Compared(name, order, moment)
    value = _checked(name, token)
    if value is None or isinstance(value, bool):
        raise wrong(token.at, f"{token.shown} has no order; compare it by =, != or in")
    return Compared(name, order, value)


def _checked(name: Name, token: Token) -> Value:
    value = token.value
    if name.type is FieldType.TEXT and not isinstance(value, str):
        raise wrong(token.at, f"{name.name} is a text; write its value in double quotes")
    if name.type is FieldType.NUMBER and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise wrong(token.at, f"{name.name} is a number; write its value as a number")
    return value


def _moment_is(name: Name, token: Token) -> Filter:
    moment, is_day = _moment(token)
    if not is_day:
        return Among(name, (moment,))
    end = Compared(name, Order.LESS, _next_day(moment, token))
    return And((Compared(name, Order.AT_LEAST, moment), end))


def _moment(token: Token) -> tuple[datetime, bool]:
    """The time, in whole milliseconds as MongoDB keeps times; and whether it was given as a date."""
    text = token.value
    if not isinstance(text, str):
        raise _no_time(token)
    try:
        day = date.fromisoformat(text)
    except ValueError:
        pass
    else:
        return datetime(day.year, day.month, day.day, tzinfo=UTC), True
    try:
        moment = datetime.fromisoformat(text)
        moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise _no_time(token) from None
    whole_ms = moment.microsecond // _MICROSECONDS_PER_MS * _MICROSECONDS_PER_MS
    return moment.replace(microsecond=whole_ms), False


def _next_day(moment: datetime, token: Token) -> datetime:
    try:
        return moment + _DAY
    except OverflowError:
        raise _no_time(token) from None


def _no_time(token: Token) -> Exception:
    return wrong(
        token.at, f'{token.shown[:80]} is not a time; write "2026-01-31", or "2026-01-31T10:00:00Z", in quotes'
    )
