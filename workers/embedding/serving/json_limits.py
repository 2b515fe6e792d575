"""Limit the JSON values of a body before parsing: a value of 2 bytes becomes a Python object of 100 or more."""

from __future__ import annotations

import re
from typing import Final

from workers.embedding.serving.service_errors import ServiceError

_BACKSLASH: Final = ord("\\")
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)


def check_values(body: bytes | bytearray, max_values: int) -> None:
    """Raises ServiceError if `body` has more than `max_values` JSON values and names. Does not validate the JSON.

    Counts `,`, `[` and `{` outside strings. A string costs one search for its end, however long it is.
    """
    values = position = 0
    while position < len(body):
        quote = body.find(b'"', position)
        end = len(body) if quote < 0 else quote
        values += sum(body.count(mark, position, end) for mark in (b",", b"[", b"{")) + 1
        if values > max_values:
            raise ServiceError(
                f"the request has more than {max_values} JSON values; `input` takes strings, not arrays of tokens",
                param="input",
                code="too_many_inputs",
            )
        position = _after_string(body, quote) if quote >= 0 else end


def _after_string(body: bytes | bytearray, quote: int) -> int:
    """Position after the string that begins at `quote`."""
    closing = body.find(b'"', quote + 1)
    if closing < 0:
        return len(body)
    if body[closing - 1] != _BACKSLASH:
        return closing + 1
    found = _STRING.match(body, quote)
    assert found is not None
    return found.end()
