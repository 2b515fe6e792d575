"""Enumerations that are stored: a newer release may have written a value that this one does not know."""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class OpenStrEnum(StrEnum):
    """A value without a member is kept as it is: it shows itself, equals its text, and is none of the members."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        """None, and with it ValueError, for what is no text."""
        if not isinstance(value, str):
            return None
        unknown = str.__new__(cls, value)
        unknown._name_ = value
        unknown._value_ = value
        return unknown

    @property
    def is_known(self) -> bool:
        """Whether this release has a member for it."""
        return self.value in type(self)._value2member_map_
