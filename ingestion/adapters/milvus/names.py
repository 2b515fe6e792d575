"""Names of document collections and their generations in Milvus.

Releases before 0.2 used another prefix. An index that one of them made keeps its name for life, and every request
finds it under that name; a new index gets a new name. So an upgrade renames nothing.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

from ingestion.adapters.milvus.errors import NOT_FOUND, milvus_code

if TYPE_CHECKING:
    from pymilvus import MilvusClient

T = TypeVar("T")

PREFIX: Final = "pagemill"
_OLD_PREFIX: Final = "colqwen"


def index_name(index: str, prefix: str = PREFIX) -> str:
    """The Milvus name of a new index. Milvus allows letters, digits and '_' only.

    Any other name goes under another prefix and carries a hash, so that no two of ours share one of Milvus's.
    """
    return _named(prefix, index)


def old_index_name(index: str) -> str:
    """The name that releases before 0.2 gave it."""
    return _named(_OLD_PREFIX, index)


def _named(prefix: str, index: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9_]+", index):
        return f"{prefix}_{index}"
    digest = hashlib.sha256(index.encode()).hexdigest()[:16]
    return f"{prefix}x_{re.sub('[^A-Za-z0-9_]', '_', index)}_{digest}"


class IndexNames:
    """Under which of its names each index exists. Used by many threads.

    With a prefix of the user's own there is one name: no release before 0.2 had a prefix to choose.
    """

    def __init__(self, prefix: str = PREFIX) -> None:
        self._prefix = prefix
        self._old: set[str] = set()
        """Indexes that were last found under their old name."""
        self._lock = threading.Lock()

    def new(self, index: str) -> str:
        """The name for an index that is made now."""
        return index_name(index, self._prefix)

    def all(self, index: str) -> tuple[str, ...]:
        """The names that the index may have, the new one first."""
        return (self.new(index), old_index_name(index)) if self._prefix == PREFIX else (self.new(index),)

    def request(self, index: str, request: Callable[[str], T], unknown: T) -> T:
        """`request(name)` with the name of the index; `unknown` where it exists under none.

        Most indexes have the new name, and cost no further request. One with the old name costs one further request
        per process. Raises what `request` raises, except that the index is not found.
        """
        for name in self._candidates(index):
            try:
                found = request(name)
            except Exception as error:
                if milvus_code(error) != NOT_FOUND:
                    raise
                continue
            self._note(index, name)
            return found
        return unknown

    def find(self, client: MilvusClient, index: str, timeout_s: float) -> str | None:
        """The name under which the index exists, None where it does not exist."""
        for name in self._candidates(index):
            if client.has_collection(name, timeout=timeout_s):
                self._note(index, name)
                return name
        return None

    def _candidates(self, index: str) -> tuple[str, ...]:
        names = self.all(index)
        with self._lock:
            return names[::-1] if index in self._old else names

    def _note(self, index: str, name: str) -> None:
        with self._lock:
            if name == self.new(index):
                self._old.discard(index)
            else:
                self._old.add(index)
