"""What an audit reports, and how it makes sure."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

STORES: Final = ("mongodb", "s3", "milvus")


class Kind(StrEnum):
    MISSING = "missing"
    """A ready document lacks it. Only the file itself could bring it back."""
    EXTRA = "extra"
    """It lies where a ready document's own things are, and the document does not refer to it."""
    ORPHAN = "orphan"
    """No document has it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One mismatch, in one of STORES. `what` names the first of `count` things.

    `document_id` and `collection` are empty where nothing tells them.
    """

    store: str
    kind: Kind
    what: str
    count: int
    document_id: str = ""
    collection: str = ""
    is_repaired: bool = False


SecondLook: TypeAlias = Callable[[], Awaitable[list[Finding]]]
"""Looks again at one suspect, closely, and tells what is wrong with it; nothing, where it was only in motion."""
