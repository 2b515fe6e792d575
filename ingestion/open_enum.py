"""Enumerations for stored values: a newer release may have written a value that this release does not know."""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class OpenStrEnum(StrEnum):
    """An unknown value becomes a member that equals its text and no known member."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        """Return an unknown member for a text. Return None for other types: the enumeration then raises ValueError."""
        if not isinstance(value, str):
            return None
        unknown = str.__new__(cls, value)
        unknown._name_ = value
        unknown._value_ = value
        return unknown

    @property
    def is_known(self) -> bool:
        """Whether this release defines the member."""
        return self.value in type(self)._value2member_map_
