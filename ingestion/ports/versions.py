"""The version of a collection, and the fields of its record that a search reads first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ingestion.catalogue.generations import Binding


@dataclass(frozen=True, slots=True)
class Searchable:
    """A collection as one read of its record showed it.

    `version` is None while a document of the collection may become ready at any moment.
    """

    binding: Binding
    version: str | None


class CollectionVersions(Protocol):
    """The version of a collection changes with everything that a search of it finds.

    `Ledger.finish` changes it twice: before the document becomes ready, and after. In between the collection has no
    version. If the process dies there, it has none until `Recovery.settle_changes` has seen that the document can no
    longer become ready under that fence. `begin_delete` changes it before the document is no longer ready. Any
    other method that changes the results of a search must change the version in the same compare-and-set. A version
    is never used again, also after the collection was dropped and recreated.
    """

    async def searchable(self, collection: str) -> Searchable | None:
        """The collection as it is now, None before its first page. Raises CollectionArchived."""
