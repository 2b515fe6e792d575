"""The type of the index that each Milvus collection has. The settings name that of new ones only."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from ingestion.adapters.milvus.server_version import ServerVersion, server_version
from ingestion.adapters.milvus.stand_in import HELD_TYPE, OUTPUT_FIELDS

if TYPE_CHECKING:
    from pymilvus import MilvusClient

_ASKED_AGAIN_S: Final = 60.0
"""Another process may drop a collection and make it again under the same name, with another type of index."""


class HeldIndexes:
    """Asks the server once for each collection, and again after a minute. Used by many threads.

    Threads that find nothing may ask at the same time: each gets the same answer.
    """

    def __init__(self) -> None:
        self._version: ServerVersion | None = None
        self._types: dict[str, tuple[str, float]] = {}

    def type_of(self, client: MilvusClient, name: str, timeout_s: float) -> str | None:
        """The index type of the Milvus collection `name`, None where it has no index yet.

        Raises MilvusException: among others where there is no such collection.
        """
        known = self._types.get(name)
        if known is not None and time.monotonic() - known[1] < _ASKED_AGAIN_S:
            return known[0]
        if self._is_lite(client, timeout_s):
            return HELD_TYPE
        indexes = client.list_indexes(name, timeout=timeout_s)
        if not indexes:
            return None
        held = str(client.describe_index(name, indexes[0], timeout=timeout_s)["index_type"])
        self._types[name] = (held, time.monotonic())
        return held

    def output_fields(self, client: MilvusClient, timeout_s: float) -> Sequence[str]:
        """The fields that a search must ask for so that it gets no others."""
        return OUTPUT_FIELDS if self._is_lite(client, timeout_s) else ()

    def _is_lite(self, client: MilvusClient, timeout_s: float) -> bool:
        if self._version is None:
            self._version = server_version(client, timeout_s)
        return self._version.is_lite

    def forget(self, name: str) -> None:
        self._types.pop(name, None)
